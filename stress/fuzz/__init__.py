"""A fuzzer over formats: rings, frames, stored values, and files whose checksums are right."""
