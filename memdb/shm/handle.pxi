# A handle's hold on its attachment: the client that serves now, and point reads of the newest state.
#
# Invariants:
#  - Every operation looks at GENERATION once (rule G2); who finds another word, a dead group or a fork attaches anew.
#  - A wait ends: when what it waits for is there, or with Timeout after `timeout` seconds without progress (rule C8).

cdef class Attached(Reads):
    """One handle's options and its attachment's client."""

    cdef readonly object _attachment
    cdef Client client
    cdef int level
    cdef bint readonly_handle
    cdef bint closed_handle
    cdef double timeout
    cdef uint64_t max_key
    cdef uint64_t max_value
    cdef uint64_t max_transaction
    cdef uint64_t seen_lsn     # shown while a rebuild in the only arena has torn it down
    cdef dict unsettled        # ids given up by this handle: the GENERATION word of their time

    def _bind(self, attachment, *, str durability, bint readonly, double timeout, max_key_bytes, max_value_bytes,
              max_transaction_bytes, encode, unpack):
        """Ties the handle to its attachment. *encode*: value to stored bytes; *unpack*: msgpack payload to value."""
        self._attachment = attachment
        self.client = None
        self.level = _LEVELS.get(durability, C_LEVEL_OS)
        self.readonly_handle = readonly
        self.timeout = timeout
        self.max_key, self.max_value, self.max_transaction = max_key_bytes, max_value_bytes, max_transaction_bytes
        self.encode_value, self.unpack_value = encode, unpack
        self.unsettled = {}
        self.live()

    def _unbind(self):
        """Ends the handle; the attachment that it had, or None if it was closed before."""
        attachment, self._attachment = self._attachment, None
        self.client = None
        self.closed_handle = True
        return attachment

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self.closed_handle

    # ---- the client that serves

    cdef int check_open(self) except -1:
        if self.closed_handle or self._attachment is None:
            raise ClosedError(f"the database handle of {self._path} is closed; open it again with memdb.open")
        return 0

    cdef inline Client live(self):
        cdef Client client = self.client
        if client is None or client.forks != fork_count or c_load_acquire(&client.page.word) != client.word:
            client = self.renew()
        return client

    cdef Client renew(self):
        """The client of the group and generation that serve now; attaches anew where they were replaced."""
        cdef Client client
        cdef Patience patience
        cdef int rc
        self.check_open()
        patience_init(&patience, self.timeout)
        while True:
            client = self._attachment.client
            if client is None or client.forks != fork_count:
                rc = C_MOVED
            else:
                rc = client.refresh()
            if rc == C_OK:
                self.client = client
                return client
            if rc == C_MOVED:
                self.reattach()
                continue
            self.pause(client, &patience)

    cdef int arena_moved(self, Client client) except -1:
        """A pin met an arena that is torn down: waits until GENERATION names another."""
        cdef Patience patience
        patience_init(&patience, self.timeout)
        while c_load_acquire(&client.page.word) == client.word:
            self.pause(client, &patience)
        return 0

    cdef int pause(self, Client client, Patience *patience) except -1:
        cdef uint64_t word = c_load_acquire(&client.page.word)
        with nogil:
            c_futex_wait(<const c_a32 *>&client.page.word, <uint32_t>word, POLL_US)
        PyErr_CheckSignals()
        if client.out_of_patience(patience):
            raise Timeout(f"no generation of the arena served for {self.timeout:g} s without progress: "
                          f"{client.describe_writer()}; see engine.log", seconds=self.timeout)
        if c_monotonic_us() - patience.since_us > SLICE_US and not self._attachment.group_alive():
            self.reattach()
        return 0

    cdef int reattach(self) except -1:
        self.check_open()
        self._attachment.reattach(_time.monotonic() + self.timeout)
        return 0

    # ---- reads

    cdef int read(self, KeyBytes *key, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        cdef Client client
        cdef c_pin pin
        cdef int rc
        while True:
            client = self.live()
            if c_pin_begin(&pin, client.view, client.point_slot, C_PIN_POINT) != C_OK:
                self.arena_moved(client)
                continue
            rc = c_store_get(&pin, key.at, key.size, found)
            if rc == C_OK and copy:
                data[0] = value_copy(found, codec)
            if c_pin_end(&pin) == C_OK:
                break
            c_decref(data[0])
            data[0] = NULL
        if rc < 0:
            raise damaged_arena(pin.lsn)
        return rc

    cdef PinRef pin_for_scan(self):
        cdef PinRef pin = PinRef()
        pin.open(self, C_PIN_ITERATOR)
        return pin

    cdef list read_many(self, Keys keys, list values):
        cdef bytearray codecs = bytearray(keys.count)
        cdef uint8_t *codec_at = <uint8_t *>PyByteArray_AS_STRING(codecs)
        cdef object missing = list(values)
        cdef uint64_t bad_lsn = 0
        cdef Client client
        cdef c_pin pin
        cdef int rc
        while True:
            client = self.live()
            if c_pin_begin(&pin, client.view, client.point_slot, C_PIN_POINT) != C_OK:
                self.arena_moved(client)
                continue
            rc = read_batch(&pin, keys, values, codec_at, &bad_lsn, NULL)
            if c_pin_end(&pin) == C_OK:
                break
            values[:] = missing
        if rc < 0:
            raise damaged_arena(bad_lsn or pin.lsn)
        return codec_indexes(codec_at, keys.count)

    def __len__(self):
        cdef Client client = self.live()
        cdef uint64_t count = 0
        if c_store_quick_count(client.view, C_SPACE_PLAIN, c_view_time(client.view), &count) == C_OK:
            return count
        return self._count()  # some keys have expired and are not reaped yet

    @property
    def lsn(self) -> int:
        """The LSN of the newest commit that readers see."""
        cdef uint64_t published = c_load_acquire(&self.live().view.header.published)
        if published != 0:
            self.seen_lsn = published
        return self.seen_lsn

    @property
    def durable_lsn(self) -> int:
        """The highest LSN that is known to survive a power cut."""
        return c_load_acquire(&self.live().view.header.synced)

    def _arena_figures(self):
        cdef const c_arena_header *header = self.live().view.header
        return {
            "generation": header.generation, "limit": header.limit, "keys": c_load_relaxed(&header.counts[1]),
            "used": c_load_relaxed(&header.used_bytes), "retired": c_load_relaxed(&header.retired_bytes),
            "reserved": c_load_relaxed(&header.reserved_bytes), "free": c_load_relaxed(&header.free_bytes),
        }

    cdef bint serves(self, Client client) except -1:
        """Is this the client of a group that lives? A system call."""
        attachment = self._attachment
        return attachment is not None and attachment.client is client and attachment.group_alive()
