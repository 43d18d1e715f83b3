# cython: language_level=3, binding=True, embedsignature=True, boundscheck=False, wraparound=False, initializedcheck=False
# _kernel.pyx: the one binding of the kernel. Owns nothing itself: each part owns its file, all end in one extension module, so that
# they share cdef classes (a Mapping's base pointer) without a capsule in between.
"""The shared-memory kernel, bound: mappings, the writer's objects, the reader's objects, the key codec."""

include "kernel_decl.pxi"
include "mapping.pxi"
include "engine.pxi"
include "client_decl.pxi"
include "spaces.pxi"
include "keys.pxi"
include "ordered.pxi"
include "packing.pxi"
include "client.pxi"
