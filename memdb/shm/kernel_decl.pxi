# kernel_decl.pxi: the kernel's headers as Cython sees them. Owns declarations only; every .pxi of the module uses them.
#
# Invariant: shared words are opaque structs here, so that Cython can never load or store one by itself: every access goes through
# the named orders of atomics.h. Fields that the binding does not touch are left out (the C compiler knows the real layout).

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    ctypedef struct memdb_a32:
        pass
    ctypedef struct memdb_a64:
        pass
    uint64_t memdb_load64_relaxed "memdb_load_relaxed"(const memdb_a64 *)
    uint64_t memdb_load64_acquire "memdb_load_acquire"(const memdb_a64 *)
    uint64_t memdb_load64_sc "memdb_load_sc"(const memdb_a64 *)
    void memdb_store64_relaxed "memdb_store_relaxed"(memdb_a64 *, uint64_t)
    void memdb_store64_release "memdb_store_release"(memdb_a64 *, uint64_t)
    void memdb_store64_sc "memdb_store_sc"(memdb_a64 *, uint64_t)
    bint memdb_cas64_sc "memdb_cas_sc"(memdb_a64 *, uint64_t *, uint64_t)
    uint32_t memdb_load32_relaxed "memdb_load_relaxed"(const memdb_a32 *)
    uint32_t memdb_load32_acquire "memdb_load_acquire"(const memdb_a32 *)
    uint32_t memdb_load32_sc "memdb_load_sc"(const memdb_a32 *)
    void memdb_store32_relaxed "memdb_store_relaxed"(memdb_a32 *, uint32_t)
    void memdb_store32_release "memdb_store_release"(memdb_a32 *, uint32_t)
    void memdb_store32_sc "memdb_store_sc"(memdb_a32 *, uint32_t)
    void memdb_copy_out(void *, const memdb_a64 *, size_t)

cdef extern from "layout.h" nogil:
    ctypedef uint32_t memdb_ref
    enum:
        MEMDB_LAYOUT
        MEMDB_SPACES
        MEMDB_SLOTS
        MEMDB_HAZARDS
        MEMDB_CELLS
        MEMDB_RING_BYTES
        MEMDB_KEY_MAX
        MEMDB_OK
        MEMDB_ABSENT
        MEMDB_CONDITION
        MEMDB_AGAIN
        MEMDB_CONFLICT
        MEMDB_FULL
        MEMDB_SHM_FULL
        MEMDB_REVOKED
        MEMDB_DAMAGED
        MEMDB_MOVED
        MEMDB_INVALID
        MEMDB_TOO_LARGE
        MEMDB_LOG_FAILED
        MEMDB_NO_SLOT
        MEMDB_TIMEOUT
        MEMDB_READ_ONLY
        MEMDB_BUFFER
        MEMDB_STOPPED
    enum:
        MEMDB_CELL_IDLE
        MEMDB_CELL_SUBMITTED
        MEMDB_CELL_TAKEN
        MEMDB_CELL_DONE
        MEMDB_CELL_WITHDRAWN
        MEMDB_WAITING
    struct memdb_arena_header:
        uint64_t magic
        uint32_t layout
        uint64_t generation, size, limit, hash_seed
        memdb_a64 ready, published, time_floor, next_expiry
        memdb_a64 counts[8]
        memdb_a64 used_bytes, retired_bytes, reserved_bytes, free_bytes
        memdb_a64 headers, blocks, cells, versions, hash_bytes, applied, synced, min_pinned, expiring, expiry_bytes
    struct memdb_slot:
        memdb_a64 word, since, time, kind
    struct memdb_result:
        memdb_a32 state, status
        memdb_a64 request, lsn, count, detail, winner
    struct memdb_lease:
        uint64_t magic
        uint32_t layout, ring_bytes
        uint8_t client_id[16]
        memdb_a64 ready, ring_tail, ring_head, next_request, latest_time
        memdb_a32 slots_used, hazards_used
        memdb_result results[64]
        memdb_slot slots[2][512]
        memdb_a64 hazards[2][256]
    struct memdb_board:
        uint64_t magic
        uint32_t layout
        memdb_a32 bell, parked
        memdb_a64 writer_lsn, writer_pid, phase, progress_done, progress_total, clients
    struct memdb_generation_page:
        uint64_t magic
        uint32_t layout
        memdb_a64 word
        uint8_t group_id[16]
    struct memdb_logbuf_half:
        memdb_a64 segment, salt, tail, written, synced, last_lsn, lsn_limit, capacity
    struct memdb_logbuf:
        uint64_t magic
        uint32_t layout
        uint64_t half_bytes
        memdb_a64 current
        memdb_logbuf_half half[2]

cdef extern from "arena.h" nogil:
    ctypedef struct memdb_view:
        const memdb_arena_header *header
        const uint8_t *base
        uint64_t size
        unsigned parity
        memdb_a64 *latest
    ctypedef struct memdb_arena:
        pass
    int memdb_view_attach(memdb_view *, const void *, uint64_t, unsigned)
    const void *memdb_view_at(const memdb_view *, memdb_ref, uint64_t)
    int memdb_arena_create(memdb_arena **, void *, uint64_t, int, uint64_t, uint64_t, uint64_t)
    void memdb_arena_free(memdb_arena *)
    memdb_arena_header *memdb_arena_get_header "memdb_arena_header"(memdb_arena *)
    memdb_view memdb_arena_view(memdb_arena *)
    uint64_t memdb_arena_punch(memdb_arena *)
    int memdb_arena_audit(memdb_arena *)

cdef extern from "epoch.h" nogil:
    enum:
        MEMDB_SLOT_FREE
        MEMDB_SLOT_IDLE
        MEMDB_SLOT_ACTIVE
        MEMDB_SLOT_REVOKED
        MEMDB_PIN_POINT
        MEMDB_PIN_SNAPSHOT
        MEMDB_PIN_ITERATOR
        MEMDB_PIN_CHECKPOINT
    uint64_t MEMDB_LSN_MASK
    ctypedef int memdb_pin_kind "enum memdb_pin_kind"
    ctypedef struct memdb_pin:
        memdb_view view
        memdb_slot *slot
        uint64_t word, lsn, time_us
    int memdb_pin_begin(memdb_pin *, const memdb_view *, memdb_slot *, memdb_pin_kind)
    int memdb_pin_end(memdb_pin *)
    int memdb_pin_leave(memdb_pin *)
    int memdb_pin_enter(memdb_pin *)
    void memdb_pin_close(memdb_pin *)
    uint64_t memdb_pin_time(memdb_pin *)
    int memdb_hazard_set(memdb_lease *, unsigned, memdb_ref)
    void memdb_hazard_clear(memdb_lease *, unsigned, int)
    ctypedef struct memdb_scanner:
        pass
    memdb_scanner *memdb_scanner_new()
    void memdb_scanner_free(memdb_scanner *)
    int memdb_scanner_add(memdb_scanner *, memdb_lease *)
    void memdb_scanner_remove(memdb_scanner *, memdb_lease *)
    void memdb_scanner_scan(memdb_scanner *, unsigned)
    uint64_t memdb_scanner_oldest(const memdb_scanner *)
    bint memdb_slot_revoke(memdb_slot *, uint64_t)

cdef extern from "store.h" nogil:
    ctypedef struct memdb_found:
        const memdb_a64 *data
        uint32_t len
        memdb_ref owner
        uint64_t lsn, expires_us
    int memdb_store_get(memdb_pin *, const void *, size_t, memdb_found *)
    int memdb_store_get_many(memdb_pin *, const uint8_t *, const uint32_t *, size_t, memdb_found *)
    ctypedef struct memdb_scan:
        uint8_t *start
        uint8_t *stop
        size_t start_len, stop_len
        bint reverse, done, keys_only, with_expired
        uint64_t remaining
    ctypedef struct memdb_batch:
        uint8_t *out
        size_t cap, used
        uint32_t count, max_count
        size_t needed
    int memdb_scan_init(memdb_scan *, const void *, size_t, const void *, size_t, bint, uint64_t, bint)
    int memdb_scan_batch(memdb_pin *, memdb_scan *, memdb_batch *)
    int memdb_scan_advance(memdb_scan *, const memdb_batch *)
    void memdb_scan_clear(memdb_scan *)
    int memdb_store_count(memdb_pin *, const void *, size_t, const void *, size_t, uint64_t *)
    ctypedef void (*memdb_problem_fn)(void *, uint64_t, uint64_t, const char *) noexcept nogil
    int memdb_store_verify(memdb_pin *, memdb_problem_fn, void *, uint64_t *)
    ctypedef struct memdb_store:
        pass
    int memdb_store_new(memdb_store **, memdb_arena *, memdb_scanner *)
    void memdb_store_free(memdb_store *)
    memdb_arena *memdb_store_arena(memdb_store *)
    void memdb_store_publish(memdb_store *, uint64_t)
    size_t memdb_store_reclaim(memdb_store *, size_t)
    bint memdb_store_reclaim_pending(memdb_store *)
    size_t memdb_store_expired(memdb_store *, uint64_t, size_t, uint8_t *, size_t, uint32_t *)
    uint64_t memdb_store_pinned_bytes(memdb_store *, uint64_t)
    uint64_t memdb_store_viewed_bytes(memdb_store *, const memdb_lease *)
    int memdb_store_audit(memdb_store *, memdb_problem_fn, void *)
    int memdb_bulk_begin(memdb_store *, uint64_t)
    int memdb_bulk_finish(memdb_store *)
    int memdb_bulk_copy(memdb_store *, memdb_pin *, memdb_a64 *)
    void memdb_store_open(memdb_store *, uint64_t)

cdef extern from "lease.h" nogil:
    enum:
        MEMDB_ENTRY_COMMIT
        MEMDB_ENTRY_FRAME
        MEMDB_ENTRY_SYNC
        MEMDB_LEVEL_MEMORY
        MEMDB_LEVEL_OS
        MEMDB_LEVEL_FULL
        MEMDB_ENTRY_STAGED
        MEMDB_ENTRY_REPEAT
        MEMDB_ENTRY_VALIDATE
        MEMDB_FRAME_MAX
        MEMDB_UNKNOWN
    struct memdb_entry:
        uint32_t size
        uint16_t kind
        uint8_t flags, level
        uint64_t request
        uint32_t cell
        uint32_t frame
    void memdb_lease_init(memdb_lease *, const uint8_t *)
    int memdb_lease_check(const memdb_lease *, uint64_t)
    int memdb_lease_submit(memdb_lease *, memdb_board *, const memdb_entry *, const void *)
    int memdb_lease_wait(memdb_lease *, uint32_t, uint64_t, uint64_t)
    int memdb_lease_withdraw(memdb_lease *, uint32_t)
    void memdb_bell_ring(memdb_board *)

cdef extern from "ops.h" nogil:
    enum:
        MEMDB_OP_SET
        MEMDB_OP_DELETE
        MEMDB_OP_DELETE_RANGE
        MEMDB_OP_CHECK
        MEMDB_OP_HAS_TTL
        MEMDB_OP_IF_VERSION
        MEMDB_OP_IF_ABSENT
        MEMDB_OP_IF_PRESENT
        MEMDB_OP_KEEP_TTL
    ctypedef struct memdb_op:
        uint8_t code, flags
        uint16_t key_len
        uint32_t value_len
        uint64_t expires_us, if_lsn
        const uint8_t *key
        const uint8_t *value
    ctypedef struct memdb_ops_reader:
        const uint8_t *at
        const uint8_t *end
        uint32_t left
    int memdb_ops_begin(memdb_ops_reader *, const void *, size_t)
    int memdb_ops_next(memdb_ops_reader *, memdb_op *)
    size_t memdb_ops_put(uint8_t *, size_t, const memdb_op *)

cdef extern from "record.h" nogil:
    enum:
        MEMDB_SEGMENT_HEADER
        MEMDB_RECORD_COMMIT
        MEMDB_RECORD_MARK
        MEMDB_RECORD_LINK
        MEMDB_RECORD_GOOD
        MEMDB_RECORD_END
        MEMDB_RECORD_BAD_HEADER
        MEMDB_RECORD_BAD_BODY
        MEMDB_RECORD_TOO_NEW
    struct memdb_record_header:
        uint32_t magic, size
        uint8_t type, flags
        uint16_t version
        uint32_t op_count
        uint64_t lsn, durable_lsn
        uint8_t client_id[16]
        uint64_t request, time_us, count
        uint32_t body_crc, header_crc
    struct memdb_mark_body:
        uint64_t lsn_limit
    struct memdb_link_body:
        uint64_t lsn_limit, previous_segment, previous_last_lsn, previous_last_crc, term
    uint64_t memdb_record_seal(uint8_t *, uint64_t, uint64_t)
    ctypedef struct memdb_record:
        memdb_record_header header
        uint64_t offset, padded
        const uint8_t *body
        uint32_t body_len
    int memdb_record_read(const uint8_t *, uint64_t, uint64_t, uint64_t, memdb_record *)
    int memdb_record_find(const uint8_t *, uint64_t, uint64_t, uint64_t, memdb_record *)
    int memdb_record_torn_like(const uint8_t *, uint64_t, uint64_t, uint64_t)

cdef extern from "replay.h" nogil:
    enum:
        MEMDB_OUTCOME_KEY
        MEMDB_OUTCOME_VALUE
    ctypedef struct memdb_replay_result:
        uint64_t records, first_lsn, last_lsn, durable_lsn, end_offset, lsn_limit, time_us
        uint32_t last_crc
        int verdict
        memdb_link_body link
    int memdb_replay_segment(memdb_store *, const uint8_t *, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, memdb_a64 *,
                             memdb_replay_result *)
    void memdb_outcome_key(uint8_t *, const uint8_t *, uint64_t)
    struct memdb_ckpt_block:
        uint32_t magic, count
        uint64_t index, bytes
        uint32_t payload_crc, header_crc
    void memdb_ckpt_seal(memdb_ckpt_block *, uint64_t, uint64_t, uint32_t, const void *, uint64_t)
    int memdb_ckpt_check(const memdb_ckpt_block *, uint64_t, uint64_t, const void *, uint64_t)
    int memdb_ckpt_load(memdb_store *, const void *, uint64_t, uint32_t, uint64_t)

cdef extern from "commit.h" nogil:
    enum:
        MEMDB_EVENT_NONE
        MEMDB_EVENT_CONTROL
        MEMDB_EVENT_ROTATE
        MEMDB_EVENT_LOG_FAILED
        MEMDB_EVENT_PRESSURE
    ctypedef struct memdb_commit:
        pass
    ctypedef struct memdb_commit_config:
        uint64_t max_transaction_bytes, max_key_bytes, max_value_bytes, sync_interval_us, spin_us, lsn_step
        uint32_t quota
        uint64_t word
        uint8_t logged
    ctypedef int64_t (*memdb_log_write_fn)(void *, const void *, uint64_t, uint64_t) noexcept nogil
    int memdb_commit_new(memdb_commit **, memdb_store *, memdb_scanner *, memdb_board *, memdb_logbuf *, const memdb_commit_config *,
                         uint64_t)
    void memdb_commit_free(memdb_commit *)
    int memdb_commit_add_lease(memdb_commit *, memdb_lease *)
    void memdb_commit_allow_system(memdb_commit *, memdb_lease *)
    void memdb_commit_remove_lease(memdb_commit *, memdb_lease *)
    int memdb_commit_open_segment(memdb_commit *, uint64_t, uint64_t, uint64_t, const void *, uint64_t, const memdb_link_body *,
                                  memdb_log_write_fn, void *)
    int memdb_commit_resume_segment(memdb_commit *, memdb_log_write_fn, void *)
    uint64_t memdb_logbuf_bytes(uint64_t)
    void memdb_logbuf_init(memdb_logbuf *, uint64_t)
    uint8_t *memdb_logbuf_image(memdb_logbuf *, uint64_t)
    int memdb_commit_run(memdb_commit *, uint64_t)
    int memdb_commit_step(memdb_commit *)
    void memdb_commit_pressure_done(memdb_commit *, int)
    int memdb_commit_take_now(memdb_commit *, const memdb_lease *) nogil
    void memdb_commit_interrupt(memdb_commit *)
    int memdb_commit_flush(memdb_commit *)
    int memdb_commit_mark(memdb_commit *)
    void memdb_commit_want_rotate(memdb_commit *)
    void memdb_commit_close_intake(memdb_commit *, bint)
    void memdb_commit_read_only(memdb_commit *, int, int)
    void memdb_commit_set_lsn(memdb_commit *, uint64_t, uint64_t)
    ctypedef struct memdb_commit_figures:
        uint64_t applied_lsn, published_lsn, written_lsn, synced_lsn, lsn_limit
        uint64_t segment, tail, written, synced, capacity
        uint64_t commits, rejected, conflicts, rounds, syncs, parks, dirty_keys, bytes_logged, reclaim_us
        uint64_t segment_needed, held_bytes, pending, broken_leases
        uint32_t last_crc
        int log_errno, held_status, read_only
    void memdb_commit_get_figures(memdb_commit *, memdb_commit_figures *)
    void memdb_commit_reset_dirty(memdb_commit *)
    ctypedef struct memdb_sync_job:
        uint64_t segment, bytes, lsn
    int memdb_sync_wait(memdb_commit *, memdb_sync_job *, uint64_t)
    void memdb_sync_done(memdb_commit *, const memdb_sync_job *, int)
    void memdb_sync_stop(memdb_commit *)
    void memdb_sync_request(memdb_commit *)

cdef extern from "futex.h" nogil:
    uint64_t memdb_clock_us()
    uint64_t memdb_clock_monotonic_us()

cdef extern from "crc32c.h" nogil:
    uint32_t memdb_crc32c(uint32_t, const void *, size_t)
    const char *memdb_crc32c_path()
