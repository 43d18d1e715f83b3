# What the client's part of the binding uses of the kernel's headers, under names of its own (c_…), so that these
# declarations and those of the writer's part stand side by side. Sizes and orders are the headers'.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

cdef extern from "Python.h":
    PyObject *c_bytes_new "PyBytes_FromStringAndSize"(const char *text, Py_ssize_t size)
    object c_bytes_of "PyBytes_FromStringAndSize"(const char *text, Py_ssize_t size)
    char *c_bytes_data "PyBytes_AS_STRING"(PyObject *data)
    void c_decref "Py_XDECREF"(PyObject *data)
    object c_str_of "PyUnicode_DecodeUTF8"(const char *text, Py_ssize_t size, const char *errors)
    const char *c_str_utf8 "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size) except NULL
    long long c_long_value "PyLong_AsLongLongAndOverflow"(object number, int *overflow) except? -1

cdef extern from "atomics.h":
    ctypedef uint32_t c_a32 "memdb_a32"
    ctypedef uint64_t c_a64 "memdb_a64"
    uint64_t c_load_relaxed "memdb_load_relaxed"(const c_a64 *word) nogil
    uint64_t c_load_acquire "memdb_load_acquire"(const c_a64 *word) nogil
    uint32_t c_load_acquire32 "memdb_load_acquire"(const c_a32 *word) nogil
    uint32_t c_load_relaxed32 "memdb_load_relaxed"(const c_a32 *word) nogil
    void c_store_relaxed "memdb_store_relaxed"(c_a64 *word, uint64_t value) nogil
    void c_store_sc32 "memdb_store_sc"(c_a32 *word, uint32_t value) nogil
    void c_copy_out "memdb_copy_out"(void *to, const c_a64 *src, size_t length) nogil
    void c_spin_hint "memdb_spin_hint"() nogil

cdef extern from "layout.h":
    enum:
        C_OK "MEMDB_OK"
        C_ABSENT "MEMDB_ABSENT"
        C_CONDITION "MEMDB_CONDITION"
        C_CONFLICT "MEMDB_CONFLICT"
        C_AGAIN "MEMDB_AGAIN"
        C_FULL "MEMDB_FULL"
        C_SHM_FULL "MEMDB_SHM_FULL"
        C_REVOKED "MEMDB_REVOKED"
        C_DAMAGED "MEMDB_DAMAGED"
        C_MOVED "MEMDB_MOVED"
        C_INVALID "MEMDB_INVALID"
        C_TOO_LARGE "MEMDB_TOO_LARGE"
        C_LOG_FAILED "MEMDB_LOG_FAILED"
        C_READ_ONLY "MEMDB_READ_ONLY"
        C_BUFFER "MEMDB_BUFFER"
        C_STOPPED "MEMDB_STOPPED"
        C_NO_SLOT "MEMDB_NO_SLOT"
        C_SLOTS "MEMDB_SLOTS"
        C_CELLS "MEMDB_CELLS"
        C_SPACE_PLAIN "MEMDB_SPACE_PLAIN"
        C_SPACE_SYSTEM "MEMDB_SPACE_SYSTEM"
        C_SPACE_CATALOGUE "MEMDB_SPACE_CATALOGUE"
        C_SPACE_COLLECTIONS "MEMDB_SPACE_COLLECTIONS"
        C_KEY_MAX "MEMDB_KEY_MAX"
        C_CELL_IDLE "MEMDB_CELL_IDLE"
        C_CELL_SUBMITTED "MEMDB_CELL_SUBMITTED"
        C_CELL_TAKEN "MEMDB_CELL_TAKEN"
        C_CELL_DONE "MEMDB_CELL_DONE"
        C_CELL_WITHDRAWN "MEMDB_CELL_WITHDRAWN"
        C_CELL_WAITING "MEMDB_WAITING"
    ctypedef uint32_t c_ref "memdb_ref"
    struct c_arena_header "memdb_arena_header":
        uint64_t generation
        uint64_t limit
        c_a64 published
        c_a64 time_floor
        c_a64 counts[8]
        c_a64 used_bytes
        c_a64 retired_bytes
        c_a64 reserved_bytes
        c_a64 free_bytes
        c_a64 synced
    struct c_slot "memdb_slot":
        c_a64 word
    struct c_result "memdb_result":
        c_a32 state
        c_a32 status
        c_a64 request
        c_a64 lsn
        c_a64 count
        c_a64 detail
        c_a64 winner
    struct c_lease "memdb_lease":
        uint8_t client_id[16]
        c_a64 ring_tail
        c_a64 ring_head
        c_a64 next_request
        c_a64 latest_time
        c_a32 slots_used
        c_result results[64]
        c_slot slots[2][512]
    struct c_board "memdb_board":
        c_a64 writer_lsn
        c_a64 writer_pid
        c_a64 phase
        c_a64 progress_done
        c_a64 progress_total
        c_a64 busy_clients
    struct c_page "memdb_generation_page":
        c_a64 word

cdef extern from "arena.h":
    uint64_t c_arena_margin "memdb_arena_margin"(uint64_t reserved) nogil
    ctypedef struct c_view "memdb_view":
        const c_arena_header *header
        const uint8_t *base
        uint64_t size
        unsigned parity
        c_a64 *latest
    int c_view_attach "memdb_view_attach"(c_view *view, const void *base, uint64_t size, unsigned parity) nogil

cdef extern from "epoch.h":
    enum:
        C_PIN_POINT "MEMDB_PIN_POINT"
        C_PIN_SNAPSHOT "MEMDB_PIN_SNAPSHOT"
        C_PIN_ITERATOR "MEMDB_PIN_ITERATOR"
    ctypedef struct c_pin "memdb_pin":
        c_view view
        uint64_t lsn
        uint64_t time_us
    int c_pin_begin "memdb_pin_begin"(c_pin *pin, const c_view *view, c_slot *slot, int kind) nogil
    int c_pin_at "memdb_pin_at"(c_pin *pin, const c_view *view, c_slot *slot, uint64_t lsn, uint64_t time_us) nogil
    bint c_pin_stands "memdb_pin_stands"(const c_pin *pin) nogil
    int c_pin_end "memdb_pin_end"(c_pin *pin) nogil
    int c_pin_leave "memdb_pin_leave"(c_pin *pin) nogil
    int c_pin_enter "memdb_pin_enter"(c_pin *pin) nogil
    void c_pin_close "memdb_pin_close"(c_pin *pin) nogil
    uint64_t c_view_time "memdb_view_time"(const c_view *view) nogil
    int c_hazard_set "memdb_hazard_set"(c_lease *lease, unsigned parity, c_ref owner) nogil
    void c_hazard_clear "memdb_hazard_clear"(c_lease *lease, unsigned parity, int index) nogil

cdef extern from "store.h":
    ctypedef struct c_found "memdb_found":
        const c_a64 *data
        uint32_t len
        c_ref owner
        uint64_t lsn
        uint64_t expires_us
    ctypedef struct c_scan "memdb_scan":
        const uint8_t *start
        size_t start_len
        bint done
        uint64_t remaining
    ctypedef struct c_batch "memdb_batch":
        uint8_t *out
        size_t cap
        size_t used
        uint32_t count
        uint32_t max_count
        size_t needed
    int c_store_get "memdb_store_get"(c_pin *pin, const void *key, size_t length, c_found *found) nogil
    int c_store_quick_count "memdb_store_quick_count"(const c_view *view, unsigned space, uint64_t now_us, uint64_t *count) nogil
    int c_store_get_many "memdb_store_get_many"(c_pin *pin, const uint8_t *keys, const uint32_t *ends, size_t n,
                                                c_found *found) nogil
    int c_store_count "memdb_store_count"(c_pin *pin, const void *start, size_t start_len, const void *stop,
                                          size_t stop_len, uint64_t *count) nogil
    int c_store_split "memdb_store_split"(c_pin *pin, const void *start, size_t start_len, const void *stop, size_t stop_len,
                                          uint64_t every, uint32_t max_cuts, uint8_t *out, size_t cap, uint32_t *cuts,
                                          size_t *used, uint64_t *keys, void *ended) nogil  # a bool
    int c_scan_init "memdb_scan_init"(c_scan *scan, const void *start, size_t start_len, const void *stop,
                                      size_t stop_len, bint reverse, uint64_t limit, bint keys_only) nogil
    int c_scan_batch "memdb_scan_batch"(c_pin *pin, c_scan *scan, c_batch *batch) nogil
    int c_scan_advance "memdb_scan_advance"(c_scan *scan, const c_batch *batch) nogil
    void c_scan_clear "memdb_scan_clear"(c_scan *scan) nogil

cdef extern from "futex.h":
    int c_futex_wait "memdb_futex_wait"(const c_a32 *word, uint32_t expected, uint64_t timeout_us) nogil
    uint64_t c_monotonic_us "memdb_clock_monotonic_us"() nogil
    uint64_t c_clock_us "memdb_clock_us"() nogil

cdef extern from "lease.h":
    enum:
        C_ENTRY_COMMIT "MEMDB_ENTRY_COMMIT"
        C_ENTRY_FRAME "MEMDB_ENTRY_FRAME"
        C_ENTRY_SYNC "MEMDB_ENTRY_SYNC"
        C_LEVEL_MEMORY "MEMDB_LEVEL_MEMORY"
        C_LEVEL_OS "MEMDB_LEVEL_OS"
        C_LEVEL_FULL "MEMDB_LEVEL_FULL"
        C_ENTRY_STAGED "MEMDB_ENTRY_STAGED"
        C_ENTRY_REPEAT "MEMDB_ENTRY_REPEAT"
        C_ENTRY_VALIDATE "MEMDB_ENTRY_VALIDATE"
        C_FRAME_MAX "MEMDB_FRAME_MAX"
        C_UNKNOWN "MEMDB_UNKNOWN"
    struct c_entry "memdb_entry":
        uint32_t size
        uint16_t kind
        uint8_t flags
        uint8_t level
        uint64_t request
        uint32_t cell
        uint32_t frame
    int c_lease_check "memdb_lease_check"(const c_lease *lease, uint64_t size) nogil
    int c_lease_submit "memdb_lease_submit"(c_lease *lease, c_board *board, const c_entry *entry,
                                            const void *payload) nogil
    void c_lease_wait_yielding "memdb_lease_wait_yielding"(c_lease *lease, uint32_t cell, uint64_t spin_us) nogil
    int c_lease_wait "memdb_lease_wait"(c_lease *lease, uint32_t cell, uint64_t spin_us, uint64_t timeout_us) nogil
    int c_lease_withdraw "memdb_lease_withdraw"(c_lease *lease, uint32_t cell) nogil

cdef extern from "ops.h":
    enum:
        C_OP_SET "MEMDB_OP_SET"
        C_OP_DELETE "MEMDB_OP_DELETE"
        C_OP_DELETE_RANGE "MEMDB_OP_DELETE_RANGE"
        C_OP_CHECK "MEMDB_OP_CHECK"
        C_HAS_TTL "MEMDB_OP_HAS_TTL"
        C_IF_VERSION "MEMDB_OP_IF_VERSION"
        C_IF_ABSENT "MEMDB_OP_IF_ABSENT"
        C_IF_PRESENT "MEMDB_OP_IF_PRESENT"
        C_KEEP_TTL "MEMDB_OP_KEEP_TTL"
    ctypedef struct c_op "memdb_op":
        uint8_t code
        uint8_t flags
        uint16_t key_len
        uint32_t value_len
        uint64_t expires_us
        uint64_t if_lsn
        const uint8_t *key
        const uint8_t *value
    size_t c_ops_put "memdb_ops_put"(uint8_t *buf, size_t cap, const c_op *op) nogil

cdef extern from "readset.h":
    enum:
        C_READS_HEADER "MEMDB_READS_HEADER"
        C_READ_RANGES_MAX "MEMDB_READ_RANGES_MAX"
        C_CONFLICT_POINT "MEMDB_CONFLICT_POINT"
        C_CONFLICT_RANGE "MEMDB_CONFLICT_RANGE"
        C_CONFLICT_EXPIRED "MEMDB_CONFLICT_EXPIRED"
        C_CONFLICT_WINDOW "MEMDB_CONFLICT_WINDOW"
        C_CONFLICT_GENERATION "MEMDB_CONFLICT_GENERATION"
    size_t c_reads_put_point "memdb_reads_put_point"(uint8_t *buf, size_t cap, const void *key, size_t length,
                                                     uint64_t lsn) nogil
    size_t c_reads_put_range "memdb_reads_put_range"(uint8_t *buf, size_t cap, const void *start, size_t start_len,
                                                     const void *stop, size_t stop_len) nogil
    size_t c_reads_header "memdb_reads_header"(uint8_t *buf, size_t cap, size_t used, uint32_t count, uint64_t lsn,
                                               uint64_t expires_us, uint64_t word) nogil

cdef extern from "key.h":
    enum:
        C_KEY_OVERFLOW "MEMDB_KEY_OVERFLOW"
        C_KEY_TOO_DEEP "MEMDB_KEY_TOO_DEEP"
        C_KEY_UNSUPPORTED "MEMDB_KEY_UNSUPPORTED"
        C_KEY_MAX_DEPTH "MEMDB_KEY_MAX_DEPTH"
        C_KEY_END "MEMDB_KEY_END"
        C_KEY_NULL "MEMDB_KEY_NULL"
        C_KEY_BYTES "MEMDB_KEY_BYTES"
        C_KEY_STR "MEMDB_KEY_STR"
        C_KEY_TUPLE_BEGIN "MEMDB_KEY_TUPLE_BEGIN"
        C_KEY_TUPLE_END "MEMDB_KEY_TUPLE_END"
        C_KEY_INT64 "MEMDB_KEY_INT64"
        C_KEY_BIGINT "MEMDB_KEY_BIGINT"
        C_KEY_FLOAT32 "MEMDB_KEY_FLOAT32"
        C_KEY_DOUBLE "MEMDB_KEY_DOUBLE"
        C_KEY_BOOL "MEMDB_KEY_BOOL"
        C_KEY_UUID "MEMDB_KEY_UUID"
        C_KEY_DATETIME "MEMDB_KEY_DATETIME"
    ctypedef struct c_key_writer "memdb_key_writer":
        uint8_t *buf
        size_t cap
        size_t len
    ctypedef struct c_key_item "memdb_key_item":
        int kind
        bint negative
        bint boolean
        int64_t int64
        double float64
        const uint8_t *span
        size_t span_len
        size_t payload_len
    ctypedef struct c_key_reader "memdb_key_reader":
        pass
    void c_key_writer_init "memdb_key_writer_init"(c_key_writer *w, uint8_t *buf, size_t cap) nogil
    int c_key_put_space "memdb_key_put_space"(c_key_writer *w, uint8_t space) nogil
    int c_key_put_null "memdb_key_put_null"(c_key_writer *w) nogil
    int c_key_put_bytes "memdb_key_put_bytes"(c_key_writer *w, const uint8_t *s, size_t n) nogil
    int c_key_put_str "memdb_key_put_str"(c_key_writer *w, const uint8_t *s, size_t n) nogil
    int c_key_put_int64 "memdb_key_put_int64"(c_key_writer *w, int64_t value) nogil
    int c_key_put_bigint "memdb_key_put_bigint"(c_key_writer *w, bint negative, const uint8_t *m, size_t n) nogil
    int c_key_put_double "memdb_key_put_double"(c_key_writer *w, double value) nogil
    int c_key_put_bool "memdb_key_put_bool"(c_key_writer *w, bint value) nogil
    int c_key_put_uuid "memdb_key_put_uuid"(c_key_writer *w, const uint8_t *uuid) nogil
    int c_key_put_datetime "memdb_key_put_datetime_us"(c_key_writer *w, int64_t us) nogil
    int c_key_put_begin "memdb_key_put_begin_tuple"(c_key_writer *w) nogil
    int c_key_put_end "memdb_key_put_end_tuple"(c_key_writer *w) nogil
    int c_key_encode_bytes "memdb_key_encode_bytes"(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s,
                                                    size_t n) nogil
    int c_key_encode_str "memdb_key_encode_str"(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s,
                                                size_t n) nogil
    void c_key_reader_init "memdb_key_reader_init"(c_key_reader *r, const uint8_t *encoded, size_t n) nogil
    int c_key_next "memdb_key_next"(c_key_reader *r, c_key_item *item) nogil
    int c_key_copy_payload "memdb_key_copy_payload"(const c_key_item *item, uint8_t *out, size_t cap) nogil
    int c_key_prefix_stop "memdb_key_prefix_stop"(const uint8_t *stored, size_t n, uint8_t *stop, size_t cap) nogil
