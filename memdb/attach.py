"""Attaching this process to a database directory: one attachment per directory, shared by all handles on it.

Owns: the registry of attachments, joining and starting groups, what happens at fork, leaving.

Invariants:

* One attachment per (st_dev, st_ino) and process, counted by its handles; a symbolic link leads to the
  same one.
* A client starts a group only inside a call (open, a write), never by itself, never at exit.
* A forked child changes nothing that it inherited: it closes its copies of the descriptors, keeps the
  old objects from being freed, and attaches anew, under a new client id, on first use. It has the arenas
  of its parent (read-only, for the views that it inherited), not the lease.
* The table of attachments changes under its lock only, and no finalizer takes that lock where it would
  have to wait: it leaves its handle to whoever holds it.
* Whoever waits, waits `open_timeout` seconds without progress at most, and can be interrupted.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from memdb import errors, jobs, place
from memdb.actors import segments, wire
from memdb.actors.locks import GROUP_BYTE, FileLock, own_pid_namespace, read_note
from memdb.actors.start import Patience, start_group
from memdb.options import EngineOptions, HandleOptions, describe_mismatches
from memdb.shm import _kernel
from memdb.standstill import LOOK_EVERY, Standstill

__all__ = ["Attachment", "attach", "attachment_of", "leave_unused"]

log = logging.getLogger("memdb")

_REVOKED: Final = 3  # the state of a reader slot
_CLOSE_WAIT: Final = 30.0  # seconds that the last close waits for an engine with linger=0 to end
_REFUSED_WAIT: Final = 5.0  # seconds for the end of a group that could not begin to serve
_READERS_WAIT: Final = 1.0  # seconds for sockets to readers
_ASKED_MOST: Final = 10  # times that a group may end before it has answered one question

_registry: dict[tuple[int, int], "Attachment"] = {}
_registry_lock = threading.Lock()
_dropped: "deque[Attachment]" = deque()  # once for each handle whose finalizer has not been served yet
_held: "list[Attachment]" = []  # closed, but snapshots or views of them are still in use
_inherited: list[object] = []  # of a forked child: what must never be freed here
_starter_locks: set[FileLock] = set()
_OWN_LIMITS: Final = {
    errno.EMFILE: "close some files, or raise its limit of open ones (ulimit -n, RLIMIT_NOFILE)",
    errno.ENFILE: "close some files, or raise the machine's limit of open ones (fs.file-max)",
    errno.ENOMEM: (
        "the two arenas take 2.5 times max_memory of address space: raise its limit (ulimit -v, RLIMIT_AS), "
        "or start the engine with a smaller max_memory"
    ),
}
_all: "weakref.WeakSet[Attachment]" = weakref.WeakSet()


class Attachment:
    """What all handles of this process on one directory share. Made by `attach`, ended by `release`.

    ``client`` is the kernel's Client and is replaced by :meth:`reattach`; ``options`` are the running
    engine's.
    """

    def __init__(self, path: str, directory_fd: int, handle: HandleOptions, *, memory_only: bool) -> None:
        self.path = path
        self.memory_only = memory_only
        self.client: _kernel.Client
        self.options: EngineOptions
        self.group_id = b""
        self.poison: errors.WriterPoisoned | None = None
        self.handles = 0
        self.lock = threading.RLock()
        self._directory_fd = directory_fd
        status = os.fstat(directory_fd)
        self.identity = (status.st_dev, status.st_ino)
        self._handle = handle
        self._stale = True
        self._sock: socket.socket | None = None
        self._supervisor: int | None = None  # pidfd
        self._start_options: EngineOptions | None = None
        self.idle_lanes: list[Any] = []  # connections to readers that wait for the next scan (memdb.pool)
        self._asked: tuple[Mapping[str, object], bool] = {}, True  # engine options passed, and whether logged
        _all.add(self)

    # ------------------------------------------------------------------------------------------- life

    @property
    def stale(self) -> bool:
        """Was this process forked since, or has the attachment ended?"""
        return self._stale

    def group_alive(self) -> bool:
        """Does the group of this attachment still live, as the kernel says? One system call."""
        sock = self._sock
        if self._stale or sock is None:
            return False
        if self._supervisor is not None:
            return not wire.has_ended(self._supervisor)
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return not poll.poll(0)

    def reattach(self, deadline: float) -> None:
        """Joins the group that serves now, or starts one, and replaces ``client``. ``deadline``: monotonic.

        Does nothing if another thread has just done it. Raises EngineDied, OpenTimeout and what opening
        can raise.
        """
        with self.lock:
            patience = Patience(max(0.0, deadline - time.monotonic()))
            with _own_limits(self.path):
                if not self._stale and self.group_alive() and (self.client.usable or self._remap(patience)):
                    return
            self._drop()
            try:
                self._check_place()
                with _own_limits(self.path):
                    self._join(patience, {}, None)
            except (errors.OpenTimeout, errors.EngineDied):
                raise
            except (errors.ArenaFullError, errors.CorruptionError, errors.NotADatabase, OSError) as error:
                raise errors.EngineDied(
                    f"the engine of {self.path} has ended and could not be started again: {error}",
                    log_file=os.path.join(self.path, "engine.log"),
                ) from error

    def join(self, explicit: Mapping[str, object], durability: str | None, *, logged: bool) -> None:
        """The attaching of a handle: compares explicit options; starts a group with them if there is none."""
        with self.lock:
            if not self._stale and self.group_alive():
                self._compare(explicit, durability)
                return
            self._drop()
            # Judged, with the defaults, only where a group is started: one that runs has its own.
            self._start_options, self._asked = None, (explicit, logged)
            self._join(Patience(self._handle.open_timeout), explicit, durability)

    def _remap(self, patience: Patience) -> bool:
        """Fetches the arenas of the group's new attach epoch; False if the group has ended meanwhile.

        Over a connection of its own, so that an interrupted wait leaves no answer behind.
        """
        while self.group_alive():
            if self.client.usable:
                return True
            fds = list[int]()
            try:
                with wire.connect(self._directory_fd, patience.deadline) as sock:
                    wire.send(sock, {"op": "segments"}, patience.deadline)
                    answer = wire.receive(sock, bytearray(), fds, patience.deadline)
                if answer.get("group") == self.group_id and len(fds) == 2:
                    arenas = [_kernel.Mapping(fd, answer["arena"], writable=False) for fd in fds]
                    self.client.remap(arenas[0], arenas[1], answer["epoch"])
                    continue
            except (wire.Disconnected, FileNotFoundError, ConnectionRefusedError, BrokenPipeError):
                pass  # it is ending: group_alive will tell
            except TimeoutError as error:
                raise self._timed_out(patience) from error
            finally:
                for fd in fds:
                    os.close(fd)
            if patience.is_over:
                raise self._timed_out(patience)
            patience.pause()
        return False

    def release(self) -> None:
        """One handle less; the last says goodbye. With ``linger=0`` it returns when the engine has ended."""
        with _registry_lock:
            last = self._give_back_handle()
        if last:
            self._leave()
        _serve_dropped()
        leave_unused()

    def release_from_finalizer(self) -> None:
        """`release` for a finalizer, which may run between any two instructions, also of this module."""
        _dropped.append(self)
        _serve_dropped()

    def _give_back_handle(self) -> bool:
        """Under the lock of the registry: whether it was the last."""
        self.handles -= 1
        if self.handles > 0:
            return False
        if _registry.get(self.identity) is self:
            del _registry[self.identity]
        return True

    def _leave(self) -> None:
        with self.lock:
            if not self._stale and self._in_use():
                _held.append(self)  # what they see is arena memory, which only this lease protects
                return
            self._say_goodbye()
            self._drop()
            self._close_directory()

    def _in_use(self) -> bool:
        """Do views or snapshots stand on this lease? (Iterators of a closed handle read no more.)"""
        lease = self.client.lease_mapping
        return any(
            _kernel.lease_hazards(lease, parity)
            or any(
                kind == _kernel.PIN_SNAPSHOT and state != _REVOKED
                for _, state, _, _, kind in _kernel.lease_readers(lease, parity)
            )
            for parity in (0, 1)
        )

    def release_if_unused(self) -> bool:
        """After the last snapshot and view have gone: True if it has left."""
        with self.lock:
            if not self._stale and self._in_use():
                return False
            self._say_goodbye()
            self._drop()
            self._close_directory()
        return True

    def _say_goodbye(self) -> None:
        if self._stale or self._sock is None:
            return
        deadline = time.monotonic() + _CLOSE_WAIT
        try:
            wire.send(self._sock, {"op": "bye"}, deadline)
            if self.options.linger != 0:
                return
            buffer = bytearray()
            answer = wire.receive(self._sock, buffer, [], deadline)
            while answer.get("ending"):
                answer = wire.receive(
                    self._sock, buffer, [], deadline
                )  # ends by the end of the group, or "stays"
        except wire.Disconnected:
            self._wait_for_end(deadline)
        except TimeoutError:
            log.warning("the engine of %s is still ending after %g s", self.path, _CLOSE_WAIT)
        except OSError:  # it has gone before we could say so
            pass

    def _wait_for_end(self, deadline: float) -> None:
        if self._supervisor is not None:
            poll = select.poll()
            poll.register(self._supervisor, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def _drop(self) -> None:
        """Lets the present connections go; mappings go with their last user."""
        self._stale = True
        idle, self.idle_lanes = self.idle_lanes, []
        for lane in idle:
            lane.close()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._supervisor is not None:
            os.close(self._supervisor)
            self._supervisor = None

    def _close_directory(self) -> None:
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1

    def forked(self) -> None:
        """In a child, right after the fork: closes copies of descriptors, frees nothing."""
        self.lock = threading.RLock()
        if not self._stale:
            _inherited.append(self.client)
        self._drop()

    # ---------------------------------------------------------------------------------------- joining

    def _check_place(self) -> None:
        try:
            status = os.stat(self.path)
        except OSError as error:
            if self.memory_only:
                raise place.memory_ended(self.path) from error
            raise errors.NotADatabase(
                f"the directory {self.path} was removed; put it back (the engine was ended by this), or open "
                "another one",
                path=self.path,
            ) from error
        if (status.st_dev, status.st_ino) != self.identity:
            raise errors.NotADatabase(
                f"{self.path} is another directory now than the one that was opened; open it anew",
                path=self.path,
            )

    def _join(self, patience: Patience, explicit: Mapping[str, object], durability: str | None) -> None:
        while True:
            sock = self._connect(patience)
            if sock is not None:
                try:
                    if self._hello(sock, patience, explicit, durability):
                        return
                except (wire.Disconnected, BrokenPipeError):
                    pass  # the group ended while we were at its door
                except TimeoutError as error:
                    raise self._timed_out(patience) from error
                finally:
                    if self._sock is not sock:
                        sock.close()
            elif self._start(patience):
                continue
            if patience.is_over:
                raise self._timed_out(patience)
            patience.pause()

    def _connect(self, patience: Patience) -> socket.socket | None:
        try:
            return wire.connect(self._directory_fd, patience.deadline)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError):
            return None
        except PermissionError as error:
            raise errors.ContainerMismatch(
                f"the engine of {self.path} belongs to another user ({error}); only that user and root can "
                "join it",
                path=self.path,
            ) from error

    def _start(self, patience: Patience) -> bool:
        if self.memory_only and self.group_id:
            raise place.memory_ended(self.path)
        explicit, logged = self._asked
        options = self._start_options or EngineOptions.from_explicit(explicit, logged=logged)
        try:
            started = start_group(
                self.path,
                self._directory_fd,
                options,
                patience.deadline,
                memory_only=self.memory_only,
                jobs=jobs.MODULES,
                starter_locks=_starter_locks,
            )
            if started:
                self._warn_of_little_room(options.max_memory)
            return started
        except TimeoutError as error:
            raise self._timed_out(patience) from error
        except FileNotFoundError as error:
            raise errors.NotADatabase(
                f"the directory {self.path} was removed; put it back, or open another one", path=self.path
            ) from error
        except PermissionError as error:
            why = (
                "so none can be started for reading either"
                if self._handle.readonly
                else "which the engine must do"
            )
            raise errors.ReadOnlyError(
                f"no engine runs for {self.path} and this user can't write there, {why}: {error}"
            ) from error

    def _warn_of_little_room(self, max_memory: int) -> None:
        """Rule G3: a new generation needs a second arena beside the present one."""
        _, total = segments.room()
        needed = max_memory // 4 * 5 * 2  # recovery and deletes may use a quarter above the limit
        if total < needed:
            log.warning(
                "/dev/shm has %d MiB in all, and two arenas of %s can take %d MiB: %s; give it more room, or "
                "open with a smaller max_memory (`memdb doctor` tells more)",
                total >> 20,
                self.path,
                needed >> 20,
                "writes fail before max_memory is reached"
                if total < max_memory
                else "after a writer's death, or in compact(), readers may be revoked and reads wait",
            )

    def _hello(
        self, sock: socket.socket, patience: Patience, explicit: Mapping[str, object], durability: str | None
    ) -> bool:
        """False if a new group took over meanwhile. Raises what the engine answers."""
        hello = {
            "op": "hello",
            "protocol": wire.PROTOCOL,
            "layout": _kernel.layout_version(),
            "pid": os.getpid(),
            "explicit": dict(explicit),
            "durability": durability,
            "readonly": self._handle.readonly,
        }
        wire.send(sock, hello, patience.deadline)
        buffer, fds = bytearray(), list[int]()
        try:
            answer = wire.receive(sock, buffer, fds, patience.deadline)
            while "status" in answer:
                patience.saw(answer["status"])
                answer = wire.receive(sock, buffer, fds, patience.deadline)
            if "error" in answer:
                if answer.get("ends"):
                    self._see_it_end(sock)
                raise errors.from_wire(answer["error"]).of(self.path)
            return self._move_in(sock, answer, fds)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                self._decline(sock)
            raise
        finally:
            for fd in fds:
                os.close(fd)

    @staticmethod
    def _see_it_end(sock: socket.socket) -> None:
        """The group could not begin to serve: who acts on its error must not meet it any more."""
        try:
            supervisor = wire.peer_pidfd(sock)
        except OSError:  # no descriptor is left here: its error counts more than its end
            return
        if supervisor is not None:
            poll = select.poll()
            poll.register(supervisor, select.POLLIN)
            try:
                poll.poll(_REFUSED_WAIT * 1000)
            finally:
                os.close(supervisor)

    @staticmethod
    def _decline(sock: socket.socket) -> None:
        """The engine has let us in, and we can't: it need not keep a lease for us."""
        try:
            wire.send(sock, {"op": "bye"}, time.monotonic() + 1.0)
        except OSError:  # it has gone: so has the lease
            pass

    def _move_in(self, sock: socket.socket, answer: wire.Message, fds: list[int]) -> bool:
        if len(fds) != 4:
            raise errors.ContainerMismatch(
                f"the engine of {self.path} answered, but {4 - len(fds)} of its 4 segments did not arrive: "
                "descriptors don't pass between this process and it; run both in one container or virtual "
                "machine",
                path=self.path,
            )
        sizes = answer["sizes"]
        page_fd = os.open("GENERATION", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory_fd)
        try:
            page = _kernel.Mapping(page_fd, sizes["page"], writable=False, fork_private=True)
        finally:
            os.close(page_fd)
        word = _kernel.page_word(page)
        if word >> 32 != answer["epoch"]:
            return False
        # A child inherits the arenas: views and arrays that it inherited show them (rule R4).
        arena0 = _kernel.Mapping(fds[0], sizes["arena"], writable=False)
        arena1 = _kernel.Mapping(fds[1], sizes["arena"], writable=False)
        lease = _kernel.Mapping(fds[2], sizes["lease"], writable=True, fork_private=True)
        board = _kernel.Mapping(fds[3], sizes["board"], writable=True, fork_private=True)
        client = _kernel.Client(arena0, arena1, lease, board, page, word, answer["client_id"])
        options = EngineOptions.from_wire(answer["options"])
        supervisor = wire.peer_pidfd(sock)  # the last that can fail: nobody reads by a lease that is declined
        if hasattr(self, "client"):
            client.keep_time(self.client)
        self.client, self.options = client, options
        self.client.snapshot_max_age = self.options.snapshot_max_age
        self._start_options = self.options
        self.group_id, self.memory_only = answer["group"], answer["memory_only"]
        self.poison = _poison(answer)
        self._sock, self._supervisor = sock, supervisor
        self._stale = False
        return True

    def _compare(self, explicit: Mapping[str, object], durability: str | None) -> None:
        if self.memory_only and durability != "none":
            durability = None
        differing = self.options.mismatches(explicit, durability)
        if differing:
            text = describe_mismatches(differing)
            raise errors.OptionMismatch(
                f"{self.path} is open in this process, and its engine runs with other options: {text}. "
                "Leave them out to join it, or close all handles first",
                mismatches=differing,
            )

    def _timed_out(self, patience: Patience) -> errors.Error:
        holder = read_note(self._directory_fd, "GROUP")
        lock = FileLock(self._directory_fd, "GROUP", GROUP_BYTE)
        held = lock.is_held_elsewhere()
        lock.close()
        who = f"pid {holder.pid} ({holder.command})" if holder else "an unknown process"
        if held and patience.last is None and holder and holder.pid_namespace not in (0, own_pid_namespace()):
            return errors.ContainerMismatch(
                f"the engine of {self.path} runs in another container ({who} there), and its socket can't "
                "be reached from here; give both one kernel and one mount of the directory",
                path=self.path,
            )
        if patience.last is not None:
            state = f"{who} stands still at {patience.last}"
        elif held:
            state = f"{who} holds {self.path}/GROUP and does not answer"
        else:
            state = "nobody holds GROUP"
        return errors.OpenTimeout(
            f"no progress in opening {self.path} for {patience.seconds:g} s: {state}; engine.log there may "
            "say why, and open_timeout= gives it longer",
            seconds=patience.seconds,
        )

    # ---------------------------------------------------------------------------------------- control

    def control(
        self, op: str, /, timeout: float | None = None, patience: float | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Asks the engine one control operation, over a connection of its own; attaches anew if need be.

        ``timeout``: seconds for the answer; ``patience``: seconds without progress of the group; with neither
        it waits as long as the group lives. Raises what the engine answers, Timeout, EngineDied; that also
        where groups end over the question itself.
        """
        asked = 0
        while True:
            if self._stale or not self.group_alive():
                self.reattach(time.monotonic() + self._handle.open_timeout)
            deadline = time.monotonic() + (1e9 if timeout is None else timeout)
            try:
                with _own_limits(self.path):
                    return self._ask(op, arguments, deadline, patience)
            except errors.Timeout:
                raise
            except TimeoutError as error:
                raise self._unanswered(op, timeout) from error
            except (
                wire.Disconnected,
                FileNotFoundError,
                ConnectionRefusedError,
                BrokenPipeError,
            ) as error:
                if op == "stop":
                    return {"ok": True}
                if time.monotonic() > deadline:
                    raise self._unanswered(op, timeout) from error
                self._wait_for_end(time.monotonic() + 1.0)
                asked += 1
                if asked == _ASKED_MOST:
                    raise errors.EngineDied(
                        f"the engine of {self.path} has ended, or hung up, {asked} times while it was asked "
                        f"{op!r}: engine.log there says why; it is not asked again",
                        log_file=os.path.join(self.path, "engine.log"),
                    ) from error

    def _unanswered(self, op: str, timeout: float | None) -> errors.Timeout:
        return errors.Timeout(
            f"the engine of {self.path} has not answered {op!r} for {timeout or 0:g} s"
            f"{self._who_is_stopped()}; engine.log there may say why",
            seconds=timeout,
        )

    def reader_sockets(self, wanted: int, passing: list[str]) -> list[tuple[str, socket.socket]]:
        """Fresh sockets to ``wanted`` readers of the pool at most, but none of ``passing``; what can't be
        had now is left out: whoever asks can do without."""
        deadline, fds = time.monotonic() + _READERS_WAIT, list[int]()
        try:
            if not self.group_alive():
                return []
            answer = self._ask("readers_wanted", {"wanted": wanted, "passing": passing}, deadline, None, fds)
            if len(fds) == len(answer["roles"]):
                made = [socket.socket(fileno=fd) for fd in fds]
                fds.clear()
                return list(zip(answer["roles"], made, strict=True))
        except (OSError, errors.Error) as error:
            log.debug("no reader of %s can be had: %s", self.path, error)
        finally:
            for fd in fds:
                os.close(fd)
        return []

    def _ask(
        self,
        op: str,
        arguments: Mapping[str, Any],
        deadline: float,
        patience: float | None,
        fds: list[int] | None = None,
    ) -> dict[str, Any]:
        with wire.connect(self._directory_fd, deadline) as sock:
            wire.send(sock, {"op": op, **arguments}, deadline)
            if patience is None:
                answer = wire.receive(sock, bytearray(), [] if fds is None else fds, deadline)
            else:
                answer = self._await_answer(sock, op, patience)
        if "error" in answer:
            raise errors.from_wire(answer["error"]).of(self.path)
        return answer

    def _who_is_stopped(self) -> str:
        sock = self._sock
        supervisor = 0 if sock is None else wire.peer_credentials(sock)[0]
        watch = Standstill(supervisor, self.client.board_mapping, 0.0)
        return f": {watch.describe()}" if watch.stopped() else ""

    def _await_answer(self, sock: socket.socket, op: str, patience: float) -> dict[str, Any]:
        """The answer of what takes as long as it takes, while the group makes progress."""
        supervisor, _ = wire.peer_credentials(sock)
        watch: Standstill | None = None
        buffer = bytearray()
        while True:
            try:
                return wire.receive(sock, buffer, [], time.monotonic() + min(LOOK_EVERY, patience))
            except TimeoutError as error:
                watch = watch or Standstill(supervisor, self.client.board_mapping, patience)
                if watch.is_over():
                    raise errors.Timeout(
                        f"{op} of {self.path} made no progress for {patience:g} s, and may still be done: "
                        f"{watch.describe()}",
                        seconds=patience,
                    ) from error

    def why_read_only(self) -> errors.Error | None:
        """Why the engine takes no writes now: WriterPoisoned, LogFailed, DiskFullError; else None."""
        info = self.control("info", timeout=self._handle.timeout)["info"]
        failure = info.get("poison") or info.get("wal", {}).get("failure")
        return errors.from_wire(failure).of(self.path) if failure else None

    def stop(self, timeout: float = _CLOSE_WAIT) -> bool:
        """Has the group end now, whoever uses it; True once it has ended."""
        if self._stale or not self.group_alive():
            return True
        deadline = time.monotonic() + timeout
        self.control("stop", timeout=timeout)
        self._wait_for_end(deadline)
        return not self.group_alive()


def _poison(answer: Mapping[str, Any]) -> errors.WriterPoisoned | None:
    error = errors.from_wire(answer["poison"]) if answer.get("poison") else None
    return error if isinstance(error, errors.WriterPoisoned) else None


# --------------------------------------------------------------------------------------------------- opening


@contextlib.contextmanager
def _own_limits(path: str) -> Iterator[None]:
    """Says that it is this process that has too little where it has, and not that the engine failed."""
    try:
        yield
    except OSError as error:
        if isinstance(error, errors.Error) or error.errno not in _OWN_LIMITS:
            raise
        raise errors.Error(
            f"this process (pid {os.getpid()}) can't use the engine of {path}: {error}; "
            f"{_OWN_LIMITS[error.errno]}"
        ) from error


def attach(
    path: str | os.PathLike[str] | None,
    handle: HandleOptions,
    explicit: Mapping[str, object],
    durability: str | None = None,
) -> Attachment:
    """The attachment of a directory (None: a new memory-only database), its group started if need be.

    ``explicit``: engine options that the caller passed, parsed; ``durability``: his level if he passed
    one. Raises NotADatabase, UnsupportedFilesystem, OptionMismatch, OpenTimeout, EngineDied,
    ContainerMismatch, ReadOnlyError and what recovery finds.
    """
    leave_unused()
    memory_only = path is None
    if path is None or not os.path.lexists(path):
        EngineOptions.from_explicit(explicit)  # nothing is made for options that can't be
    where = place.make_memory_home() if path is None else os.path.abspath(os.fspath(path))
    if not memory_only:
        place.prepare(where, handle)
    fd = place.open_directory(where)
    try:
        memory_only = memory_only or place.is_memory_home(where)
        if not memory_only:
            with _own_limits(where):
                place.check_contents(where, fd, handle)
        if handle.durability == "none":
            durability = "none"  # never a default, so somebody asked for it
    except BaseException:
        os.close(fd)
        raise
    attachment, is_new = _register(where, fd, handle, memory_only)
    try:
        if memory_only and path is not None and is_new:
            attachment.group_id = b"?"  # of a memory home only a living group can be joined
        with _own_limits(where):
            attachment.join(explicit, durability, logged=not memory_only and durability != "none")
    except BaseException:  # also Ctrl-C: the registry must not keep what does not serve
        attachment.release()
        raise
    return attachment


def attachment_of(client: _kernel.Client) -> Attachment | None:
    """The attachment that this client serves now; None once another has taken its place."""
    for attachment in list(_all):
        if not attachment.stale and attachment.client is client:
            return attachment
    return None


def _register(where: str, fd: int, handle: HandleOptions, memory_only: bool) -> tuple[Attachment, bool]:
    fresh = Attachment(os.path.realpath(where), fd, handle, memory_only=memory_only)
    with _registry_lock:
        attachment = _registry.setdefault(fresh.identity, fresh)
        attachment.handles += 1
    _serve_dropped()
    if attachment is not fresh:
        os.close(fd)
    return attachment, attachment is fresh


def _serve_dropped() -> None:
    """Gives back the handles whose finalizers have run; who holds the lock now does it afterwards."""
    while _dropped and _registry_lock.acquire(blocking=False):
        try:
            attachment = _dropped.popleft() if _dropped else None
            last = attachment is not None and attachment._give_back_handle()
        finally:
            _registry_lock.release()
        if attachment is not None and last:
            attachment._leave()


def leave_unused() -> None:
    """Ends attachments whose handles were closed before the last snapshot or view."""
    for attachment in list(_held):
        if attachment.release_if_unused():
            with contextlib.suppress(ValueError):  # another thread was faster
                _held.remove(attachment)


# ------------------------------------------------------------------------------------------------------ fork


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _registry_lock = threading.Lock()
    for lock in list(_starter_locks):
        lock.close()
    _starter_locks.clear()
    _inherited.extend(_held)
    _held.clear()
    for attachment in list(_all):
        attachment.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
