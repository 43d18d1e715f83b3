# commitloop.pxi: the commit loop over one store, and how its bytes reach the log.
#
# Who: the commit thread, but Commit.sync_wait, sync_done, sync_stop, sync_request (the sync thread) and interrupt (any thread).

# ---- the commit loop ----

cdef struct LogTarget:
    int fd          # >= 0: written here
    void *owner     # the Commit whose callable writes, or whose watcher is told
    int index


cdef int64_t _write_fd(void *arg, const void *data, uint64_t length, uint64_t offset) noexcept nogil:
    cdef LogTarget *target = <LogTarget *>arg
    cdef ssize_t done
    while True:
        done = c_pwrite(target.fd, data, length, <int64_t>offset)
        if done >= 0:
            return done
        if c_errno != EINTR:
            return -c_errno


cdef int64_t _write_watched(void *arg, const void *data, uint64_t length, uint64_t offset) noexcept nogil:
    cdef int64_t done
    with gil:
        done = _tell_watcher(<LogTarget *>arg, False, data, length, offset)
    if done < 0:
        return done
    done = _write_fd(arg, data, length, offset)
    if done <= 0:
        return done
    with gil:
        return _tell_watcher(<LogTarget *>arg, True, data, <uint64_t>done, offset)


cdef int64_t _tell_watcher(LogTarget *target, bint after, const void *data, uint64_t length, uint64_t offset) noexcept:
    cdef Commit commit = <Commit>target.owner
    watcher = commit.writers[target.index]
    try:
        (watcher.after if after else watcher.before)(PyBytes_FromStringAndSize(<char *>data, length), offset)
    except OSError as error:
        return -(error.errno or EIO)
    except BaseException as error:
        commit.escaped = error
        return -EIO
    return <int64_t>length


cdef int64_t _write_callable(void *arg, const void *data, uint64_t length, uint64_t offset) noexcept nogil:
    with gil:
        return _call_writer(<LogTarget *>arg, data, length, offset)


cdef int64_t _call_writer(LogTarget *target, const void *data, uint64_t length, uint64_t offset) noexcept:
    cdef Commit commit = <Commit>target.owner
    try:
        return commit.writers[target.index](PyBytes_FromStringAndSize(<char *>data, length), offset)
    except OSError as error:
        return -(error.errno or EIO)
    except BaseException as error:
        commit.escaped = error
        return -EIO


@cython.no_gc_clear  # its callables may be part of a cycle; its store and mappings must outlive it
cdef class Commit:
    """The commit loop over one store. ``logbuf`` None: durability none, nothing is logged. ``word``: the GENERATION word that the store
    is shown under, with which what a transaction has read is compared."""

    cdef memdb_commit *commit
    cdef readonly Store store
    cdef Mapping board, logbuf
    cdef LogTarget targets[2]
    cdef Mapping group_lease  # of the group's own commit that is under way
    cdef uint64_t group_request
    cdef list writers
    cdef dict leases
    cdef object escaped

    def __cinit__(self, Store store, Mapping board, Mapping logbuf, *, uint64_t max_transaction_bytes, uint64_t max_key_bytes,
                  uint64_t max_value_bytes, double sync_interval=0.2, uint64_t spin_us=50, uint64_t lsn_step=1 << 20,
                  uint32_t quota=64, uint64_t last_lsn=0, uint64_t word=0):
        cdef memdb_commit_config config
        cdef int status
        self.store, self.board, self.logbuf = store, board, logbuf
        self.writers, self.leases = [None, None], {}
        memset(&config, 0, sizeof(config))
        config.max_transaction_bytes = max_transaction_bytes
        config.max_key_bytes = max_key_bytes
        config.max_value_bytes = max_value_bytes
        config.sync_interval_us = <uint64_t>(sync_interval * 1e6)
        config.spin_us = spin_us
        config.lsn_step = lsn_step
        config.quota = quota
        config.word = word
        config.logged = logbuf is not None
        status = memdb_commit_new(&self.commit, store.store, store.scanner, _board_of(board),
                                  NULL if logbuf is None else _logbuf_of(logbuf), &config, last_lsn)
        if status != MEMDB_OK:
            raise _failure(status, "cannot start the commit loop")

    def __dealloc__(self):
        if self.commit != NULL:
            memdb_commit_free(self.commit)

    cdef int _settle(self) except -1:
        if self.escaped is not None:
            escaped, self.escaped = self.escaped, None
            raise escaped
        return 0

    def add_lease(self, Mapping lease, bint system=False):
        """Takes commits from this lease; ``system``: it may write spaces other than the mapping's."""
        cdef int status = memdb_commit_add_lease(self.commit, _lease_of(lease))
        if status != MEMDB_OK:
            raise _failure(status, "cannot take up the lease")
        if system:
            memdb_commit_allow_system(self.commit, _lease_of(lease))
        self.leases[lease.address] = lease

    def remove_lease(self, Mapping lease):
        """Ends a lease: what its client had published is committed by the steps that follow."""
        if self.leases.pop(lease.address, None) is not None:
            memdb_commit_remove_lease(self.commit, _lease_of(lease))

    def submit_group(self, Mapping lease, bytes payload, int level=MEMDB_LEVEL_MEMORY):
        """Puts the operations into the ring of the group's own lease as one commit, to be taken by the steps that follow.

        One at a time: ``group_done`` says when it has been answered. False: the ring is full, nothing was sent. ValueError: the last
        one is not done, or the payload is above the 64 KiB of one entry. Commit thread.
        """
        if not self.group_done():
            raise ValueError("the group's last commit has not been answered; look at group_done() first")
        self.group_request = _lease_send(lease, self.board, payload, level, True)
        self.group_lease = lease if self.group_request else None
        return self.group_request != 0

    def take_group(self, Mapping lease):
        """Decides what ``submit_group`` has put there now, out of turn, also while another commit waits for room. A status, or minus an EVENT.

        What the group has sent before it comes first.
        """
        cdef memdb_lease *at = _lease_of(lease)
        cdef memdb_result *result = &at.results[MEMDB_CELLS - 1]
        cdef int status
        while True:
            with nogil:
                status = memdb_commit_take_now(self.commit, at)
            self._settle()
            if status != MEMDB_OK or memdb_load32_acquire(&result.state) & 0xff != MEMDB_CELL_SUBMITTED:
                return status

    def group_done(self):
        """Whether the commit of ``submit_group`` has been answered; True if there was none. Its answer: ``lease_result`` of GROUP_CELL."""
        cdef memdb_result *result
        if self.group_lease is None:
            return True
        result = &_lease_of(self.group_lease).results[MEMDB_CELLS - 1]
        if memdb_load64_acquire(&result.request) == self.group_request and memdb_load32_acquire(&result.state) & 0xff != MEMDB_CELL_DONE:
            return False
        self.group_lease = None
        return True

    cdef memdb_log_write_fn _target(self, uint64_t segment, object write) except NULL:
        cdef LogTarget *target = &self.targets[segment & 1]
        target.owner = <void *>self
        target.index = segment & 1
        if isinstance(write, int):
            target.fd = write
            self.writers[target.index] = None
            return _write_fd
        if isinstance(write, tuple):
            target.fd, self.writers[target.index] = write
            return _write_watched
        target.fd = -1
        self.writers[target.index] = write
        return _write_callable

    def open_segment(self, uint64_t segment, uint64_t salt, uint64_t capacity, bytes header, link, write):
        """Goes on in a new segment; ``link`` a Link, ``write`` a descriptor, one with its Watcher (files.py) or a callable
        (bytes, offset) -> count. A status."""
        cdef memdb_link_body body
        cdef memdb_log_write_fn function = self._target(segment, write)
        cdef int status
        if len(header) != MEMDB_SEGMENT_HEADER:
            raise ValueError(f"a segment header has {MEMDB_SEGMENT_HEADER} bytes")
        body.lsn_limit, body.previous_segment, body.previous_last_lsn, body.previous_last_crc, body.term = link
        status = memdb_commit_open_segment(self.commit, segment, salt, capacity, PyBytes_AS_STRING(header), MEMDB_SEGMENT_HEADER,
                                           &body, function, &self.targets[segment & 1])
        self._settle()
        return status

    def resume_segment(self, uint64_t segment, write):
        """Goes on in the log buffer's current segment, writing first what the file lacks (rule C4). A status."""
        cdef int status = memdb_commit_resume_segment(self.commit, self._target(segment, write), &self.targets[segment & 1])
        self._settle()
        return status

    def run(self, double deadline):
        """Works until an event (EVENT_…) or the monotonic time ``deadline`` in seconds."""
        cdef uint64_t until = <uint64_t>(max(deadline, 0.0) * 1e6)
        cdef int event
        with nogil:
            event = memdb_commit_run(self.commit, until)
        self._settle()
        return event

    def step(self):
        """One round without waiting: how much was done, or minus an EVENT."""
        cdef int done
        with nogil:
            done = memdb_commit_step(self.commit)
        self._settle()
        return done

    def flush(self):
        """Writes all that was appended. A status."""
        cdef int status
        with nogil:
            status = memdb_commit_flush(self.commit)
        self._settle()
        return status

    def mark(self):
        """Appends and writes a mark. A status."""
        cdef int status
        with nogil:
            status = memdb_commit_mark(self.commit)
        self._settle()
        return status

    def interrupt(self):
        """Any thread: run returns EVENT_CONTROL."""
        memdb_commit_interrupt(self.commit)

    def pressure_done(self, bint retry):
        memdb_commit_pressure_done(self.commit, retry)

    def close_intake(self, bint closed):
        """Takes nothing more from the rings, or takes again."""
        memdb_commit_close_intake(self.commit, closed)

    def read_only(self, int status, bint takes_deletes):
        """Refuses writes with this status; 0 takes them again. Commits that only delete may still be taken."""
        memdb_commit_read_only(self.commit, status, takes_deletes)

    def set_lsn(self, uint64_t last_lsn, uint64_t limit):
        memdb_commit_set_lsn(self.commit, last_lsn, limit)

    def reset_dirty(self):
        memdb_commit_reset_dirty(self.commit)

    def figures(self):
        """The loop's figures by name."""
        cdef memdb_commit_figures f
        memdb_commit_get_figures(self.commit, &f)
        return f

    # -- the sync thread --

    def sync_wait(self, double timeout):
        """The next SyncJob, None if none came in ``timeout`` seconds. EOFError: the thread is to end."""
        cdef memdb_sync_job job
        cdef int status
        cdef uint64_t wait_us = <uint64_t>(timeout * 1e6)
        with nogil:
            status = memdb_sync_wait(self.commit, &job, wait_us)
        if status == MEMDB_STOPPED:
            raise EOFError("the commit loop has ended")
        return SyncJob(job.segment, job.bytes, job.lsn) if status == MEMDB_OK else None

    def sync_done(self, job, int error):
        """Reports a finished job: 0 or an errno."""
        cdef memdb_sync_job done
        done.segment, done.bytes, done.lsn = job
        memdb_sync_done(self.commit, &done, error)

    def sync_request(self):
        memdb_sync_request(self.commit)

    def sync_stop(self):
        """Makes sync_wait raise EOFError."""
        memdb_sync_stop(self.commit)
