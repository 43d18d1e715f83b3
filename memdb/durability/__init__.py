"""Log segments, checkpoints, manifest and recovery, all over one file-and-clock seam. Imports only the kernel
below it."""
