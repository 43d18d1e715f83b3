"""What clients ask over engine.sock: joining, leaving, and the control operations.

Owns: the meaning of each request and the shape of its answer. Data never passes here: commits go through
the leases' rings, reads through the arena.

Every operation answers ``{"ok": True, …}`` or ``{"error": …}``; unknown ones and malformed ones are
errors too, so that a newer client gets a sentence and not a closed socket.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from memdb import errors
from memdb.actors import segments, wire
from memdb.actors.clients import Client
from memdb.actors.door import Connection
from memdb.actors.wire import Message
from memdb.durability.failures import disk_error
from memdb.options import describe_mismatches
from memdb.shm import _kernel

if TYPE_CHECKING:
    from memdb.actors.supervisor import Supervisor

__all__ = ["Requests"]

log = logging.getLogger("memdb.engine")

OnReply = Callable[[Message], None]
_PASSED_ON: Final = frozenset({"sync", "rotate_wal", "compact", "disk_usage"})
"""Operations that the writer answers by itself."""


class Requests:
    """The control operations of one group."""

    def __init__(self, group: "Supervisor") -> None:
        self._group = group
        self._joining: set[Connection] = set()
        self._leaving: set[Connection] = set()
        self._checkpoint_now: list[OnReply] | None = None
        self._checkpoint_next: list[tuple[str, OnReply]] = []
        self._started = time.time()

    def handle(self, connection: Connection, request: Message) -> None:
        """Answers one request, now or later."""
        op = request.get("op")
        known = {
            "hello": self._hello,
            "bye": self._bye,
            "segments": self._segments,
            "readers_wanted": self._readers_wanted,
            "info": self._info,
            "readers": self._readers,
            "checkpoint": self._checkpoint,
            "clear_wal": self._clear_wal,
            "check": self._check,
            "stop": self._stop,
        }
        if not isinstance(op, str) or (op not in known and op not in _PASSED_ON):
            connection.fail(
                errors.Error(f"the engine knows no operation {op!r}; engine and client differ in version")
            )
        elif op in known:
            known[op](connection, request)
        else:
            if op == "compact":
                self._group.bury_the_dead()  # the next generation would wait for what they have pinned
            self._group.ask("writer", op, self._pass_back(connection))

    def _pass_back(self, connection: Connection) -> OnReply:
        return lambda reply: connection.answer(_without_bookkeeping(reply))

    # --------------------------------------------------------------------------------- joining, leaving

    def is_somebody_joining(self) -> bool:
        return bool(self._joining)

    def say_status(self, status: dict[str, object]) -> None:
        for connection in self._joining:
            connection.say({"status": status})

    def refuse(self, error: errors.Error) -> bool:
        """Nobody who waits at the door can come in; False if nobody waits there."""
        joining, self._joining = self._joining, set()
        for connection in joining:
            connection.fail(error, ends=True)
        return bool(joining)

    def _hello(self, connection: Connection, request: Message) -> None:
        refusal = self._group.refusal or _version_refusal(request)
        if refusal is not None:
            connection.fail(refusal, ends=refusal is self._group.refusal)
            return
        self._joining.add(connection)
        self._group.when_serving(lambda: self._let_in(connection, request), connection)

    def _let_in(self, connection: Connection, request: Message) -> None:
        if not connection.open:
            self._joining.discard(connection)
            return
        group = self._group
        try:
            self._compare_options(request)
            client = group.clients.create(secrets.token_bytes(16), connection.pid)
        except errors.Error as error:
            self._joining.discard(connection)
            connection.fail(error)
            return
        except OSError as error:
            self._turn_away(connection, None, error)
            return
        client.connection, connection.client_id = connection, client.client_id
        client.readonly = bool(request.get("readonly"))
        try:
            client.pidfd = connection.take_pidfd()
            group.admit(client, lambda: self._hand_over(connection, client))
        except OSError as error:
            self._turn_away(connection, client, error)
            return
        for other in self._leaving:
            other.say({"stays": True})
        self._leaving.clear()

    def _turn_away(self, connection: Connection, client: Client | None, error: OSError) -> None:
        """The group can't take one more client now; it serves on."""
        log.warning("pid %d could not be let in: %s", connection.pid, error)
        self._joining.discard(connection)
        if client is not None:
            connection.client_id = client.connection = None
            self._group.farewell(client.client_id, "left")
        what = f"the engine (pid {os.getpid()}) can't let one more process in"
        connection.fail(disk_error(error, what, file="engine.sock", then="who is inside goes on"))

    def _hand_over(self, connection: Connection, client: Client) -> None:
        group = self._group
        self._joining.discard(connection)
        word = group.progress.word()
        sizes = {
            "arena": group.segments.arenas[0].size,
            "lease": _kernel.lease_bytes(),
            "board": _kernel.board_bytes(),
            "page": _kernel.page_bytes(),
        }
        welcome = {
            "ok": True,
            "client_id": client.client_id,
            "group": group.group_id,
            "epoch": word >> 32,
            "word": word,
            "sizes": sizes,
            "options": group.options.to_wire(),
            "memory_only": group.memory_only,
            "pid": os.getpid(),
            "poison": group.poison.to_wire() if group.poison else None,
        }
        try:
            connection.answer(welcome, (*group.segments.readonly_arenas, client.lease, group.segments.board))
        except OSError as error:
            self._turn_away(connection, client, error)

    def _segments(self, connection: Connection, request: Message) -> None:
        """A client has seen another attach epoch: the arenas of now. Its lease and its requests stay."""
        group = self._group
        connection.answer(
            {
                "ok": True,
                "group": group.group_id,
                "epoch": group.progress.word() >> 32,
                "arena": group.segments.arenas[0].size,
            },
            group.segments.readonly_arenas,
        )

    def _readers_wanted(self, connection: Connection, request: Message) -> None:
        """Sockets over which the client hands its scans to readers of the pool: data goes there, never
        here."""
        wanted, passing = request.get("wanted"), request.get("passing")
        if type(wanted) is not int or not isinstance(passing, list):
            connection.fail(errors.Error("readers_wanted takes a number and a list of roles"))
            return
        try:
            roles, fds = self._group.reader_sockets(min(wanted, wire.FDS_MAX), passing)
        except OSError as error:
            what = f"the engine (pid {os.getpid()}) can't connect one more client to its readers"
            then = "the client does the work by itself"
            connection.fail(disk_error(error, what, file="engine.sock", then=then))
            return
        try:
            connection.answer({"ok": True, "roles": roles}, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _compare_options(self, request: Message) -> None:
        explicit, durability = request.get("explicit") or {}, request.get("durability")
        names = set(explicit) if isinstance(explicit, dict) else {repr(explicit)}
        if unknown := names - self._group.options.to_wire().keys():
            text = ", ".join(sorted(map(str, unknown)))
            raise errors.Error(
                f"the engine knows no options {text:.200}; engine and client differ in version"
            )
        if self._group.memory_only and durability != "none":
            durability = None  # every level means the same where nothing is stored
        differing = self._group.options.mismatches(explicit, durability)
        if differing:
            text = describe_mismatches(differing)
            raise errors.OptionMismatch(
                f"the engine of {self._group.home.path} (pid {os.getpid()}) already runs with other "
                f"options: {text}. Leave them out to join it, or end it first (close all handles, or "
                "`memdb stop`)",
                mismatches=differing,
            )

    def _bye(self, connection: Connection, request: Message) -> None:
        group = self._group
        if connection.client_id is not None:
            client_id, connection.client_id = connection.client_id, None
            group.farewell(client_id, "left")
            if group.options.linger == 0:
                group.bury_the_dead()
        ending = group.will_end_without()
        if ending:
            self._leaving.add(connection)
        connection.answer({"ok": True, "ending": ending})

    def left(self, connection: Connection) -> None:
        """The connection was closed."""
        self._joining.discard(connection)
        self._leaving.discard(connection)

    def _stop(self, connection: Connection, request: Message) -> None:
        log.info("pid %d asks the group to end", connection.pid)
        connection.answer({"ok": True})
        self._group.end(forced=True)

    # -------------------------------------------------------------------------------------- checkpoints

    def checkpoint(self, reason: str, on_reply: OnReply) -> None:
        """One after the other; who asks while one runs gets the next, which holds what he has seen."""
        self._checkpoint_next.append((reason, on_reply))
        if self._checkpoint_now is None:
            self._begin_checkpoint()

    def _begin_checkpoint(self) -> None:
        if not self._checkpoint_next:
            self._checkpoint_now = None
            return
        reason = self._checkpoint_next[-1][0]
        self._checkpoint_now = [on_reply for _, on_reply in self._checkpoint_next]
        self._checkpoint_next = []
        if self._group.is_home_present():
            self._group.ask("writer", "plan_checkpoint", self._planned, reason=reason)

    def _planned(self, reply: Message) -> None:
        plan = reply.get("plan")
        if "error" in reply or plan is None:
            self._checkpoint_over(reply)
        else:
            self._group.ask("checkpointer", "checkpoint", self._written, plan=plan)

    def _written(self, reply: Message) -> None:
        if "error" in reply:
            log.error("checkpoint failed: %s", reply["error"].get("message"))
            self._group.ask(
                "writer", "checkpoint_failed", lambda _: self._checkpoint_over(reply), error=reply["error"]
            )
        else:
            self._group.ask("writer", "checkpoint_finished", self._checkpoint_over, meta=reply["meta"])

    def _checkpoint_over(self, reply: Message) -> None:
        finished, self._checkpoint_now = self._checkpoint_now or [], None
        for on_reply in finished:
            on_reply(_without_bookkeeping(reply))
        if self._checkpoint_now is None:
            self._begin_checkpoint()

    def _checkpoint(self, connection: Connection, request: Message) -> None:
        self.checkpoint("manual", connection.answer)

    def _clear_wal(self, connection: Connection, request: Message) -> None:
        def retire(reply: Message) -> None:
            if "error" in reply:
                connection.answer(reply)
            else:
                self._group.ask("writer", "clear_wal", self._pass_back(connection))

        self.checkpoint("clear_wal", retire)

    def _check(self, connection: Connection, request: Message) -> None:
        self._group.ask("checkpointer", "check", self._pass_back(connection))

    # ------------------------------------------------------------------------------------------ figures

    def _info(self, connection: Connection, request: Message) -> None:
        def complete(reply: Message) -> None:
            if "error" in reply and self._group.poison is None:
                connection.answer(_without_bookkeeping(reply))
            else:
                connection.answer({"ok": True, "info": {**reply.get("info", {}), **self._own_info()}})

        self._group.ask("writer", "info", complete)

    def _own_info(self) -> Message:
        group = self._group
        free, total = segments.room()
        processes = {"supervisor": _process(os.getpid(), 0)}
        for actor in group.actors.values():
            if actor.running and not wire.has_ended(actor.pidfd):
                processes[actor.role] = _process(actor.pid, actor.restarts)
        group.bury_the_dead()
        clients = [
            {
                "client_id": one.client_id.hex(),
                "pid": one.pid,
                "command": _command(one.pid),
                "readonly": one.readonly,
            }
            for one in group.clients.outside()
        ]
        return {
            "path": group.home.path,
            "group": group.group_id.hex(),
            "epoch": group.progress.word() >> 32,
            "generation": group.progress.word() & 0xFFFFFFFF,
            "phase": group.phase,
            "started": self._started,
            "memory_only": group.memory_only,
            "checkpoint_running": self._checkpoint_now is not None,
            "options": group.options.to_wire(),
            "processes": processes,
            "clients": clients,
            "recovery": group.recovery,
            "poison": group.poison.to_wire() if group.poison else None,
            "shm": {"free": free, "total": total},
        }

    def _readers(self, connection: Connection, request: Message) -> None:
        """Every pinned slot and the number of views of every lease, both generations."""
        self._group.bury_the_dead()
        found: list[Message] = []
        for client in self._group.clients.everyone():
            lease = _kernel.Mapping(client.lease, _kernel.lease_bytes(), writable=False)
            for parity in (0, 1):
                pins = [
                    {"slot": slot, "state": state, "lsn": lsn, "since_us": since, "kind": kind}
                    for slot, state, lsn, since, kind in _kernel.lease_readers(lease, parity)
                ]
                views = _kernel.lease_hazards(lease, parity)
                if pins or views:
                    oldest = min((pin["lsn"] for pin in pins), default=0)
                    row = {**self._who(client), "parity": parity, "pins": pins, "views": views, "lsn": oldest}
                    found.append(row)
            lease.close()
        self._group.ask(
            "writer",
            "pinned_bytes",
            lambda reply: connection.answer(_with_bytes(found, reply)),
            readers=[{"lsn": row["lsn"], "client": row["client_id"]} for row in found],
        )

    def _who(self, client: Client) -> Message:
        pid = client.pid if client.role is None else self._group.actors[client.role].pid
        return {"client_id": client.client_id, "pid": pid, "command": client.role or _command(pid)}


def _with_bytes(found: list[Message], reply: Message) -> Message:
    pinned = reply.get("bytes") or [0] * len(found)
    return {"ok": True, "readers": [{**one, "bytes": size} for one, size in zip(found, pinned, strict=True)]}


def _version_refusal(request: Message) -> errors.Error | None:
    mine = (wire.PROTOCOL, _kernel.layout_version())
    theirs = (request.get("protocol"), request.get("layout"))
    if mine == theirs:
        return None
    return errors.FormatTooNew(
        f"the engine (pid {os.getpid()}) speaks protocol {mine[0]} with layout {mine[1]:#x}, this client "
        f"{theirs[0]} with {theirs[1]!r}: they are of different versions of memdb. End the engine (`memdb "
        f"stop`) and open again, or use the same version in all processes",
        found=mine[0],
        supported=theirs[0] if isinstance(theirs[0], int) else None,
    )


def _without_bookkeeping(reply: Message) -> Message:
    kept: dict[str, Any] = {name: value for name, value in reply.items() if name not in ("op", "id")}
    return kept if "error" in kept else {"ok": True, **kept}


def _process(pid: int, restarts: int) -> Message:
    """cpu: seconds used so far; rss: bytes, shared pages included."""
    import psutil  # only here and below: it would make every start slower

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_info()
    except psutil.Error:  # it ended a moment ago
        return {"pid": pid, "restarts": restarts, "cpu": None, "rss": None}
    return {"pid": pid, "restarts": restarts, "cpu": times.user + times.system, "rss": memory.rss}


def _command(pid: int) -> str:
    import psutil

    try:
        words = " ".join(psutil.Process(pid).cmdline()).split()  # `python -c` has whole programs there
        return " ".join(words)[:200]
    except (psutil.Error, ValueError):  # gone, or of another pid namespace
        return ""
