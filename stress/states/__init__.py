"""Every state that a power cut or a kill may leave a disk in, enumerated from a recorded trace, recovered and
compared with a model."""
