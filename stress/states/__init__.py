"""Every state that a disk may be left in by a power cut or a kill, enumerated from a recorded trace, recovered
and compared with a model."""
