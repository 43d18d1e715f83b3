"""The supervisor: holds GROUP, owns the segments, keeps the actors alive, lets clients in, ends the group.

Owns: the life of the group (starting → serving → ending, or read-only once a record has killed its
writer three times) and the routing of control requests. It reads and writes no data, neither in the
arena nor in files.

Invariants:

* One thread; it sleeps in epoll and wakes for events only.
* GROUP stays locked as long as this process lives, and no other process has that descriptor.
* A request to an actor that dies is asked again of its successor; every asker gets an answer.
* An actor that can't be started again now, for want of memory, descriptors or processes, is started later;
  the others go on.
* An arena in which zero-copy views stand is not built in again (rule R4): a fresh segment takes its place,
  under a new attach epoch, and the clients fetch it; the old one lives as long as it is mapped.
* The group ends only after it has closed its door with no client inside; who comes before that keeps it up.
"""

import logging
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memdb import errors
from memdb.actors import checkpointer, reader, reaper, requests, wire, writer
from memdb.actors.clients import Client, ClientTable
from memdb.actors.directory import DirectoryWatch, Home
from memdb.actors.door import Connection, Door
from memdb.actors.locks import FileLock
from memdb.actors.loop import Loop, Timer
from memdb.actors.mailbox import EventBell
from memdb.actors.processes import EXIT_FAILED, EXIT_NO_ROOM, EXIT_REFUSED, EXIT_VIEWS_STAND, Actor
from memdb.actors.progress import Progress, WriterPosition
from memdb.actors.segments import GroupSegments
from memdb.actors.wire import Message
from memdb.options import EngineOptions

__all__ = ["Supervisor"]

log = logging.getLogger("memdb.engine")

POISON_DEATHS: Final = 3
"""Deaths of the writer at one LSN after which writing stops (rule G4)."""
_STATUS_EVERY: Final = 0.1  # seconds between two words to those who wait for the group to serve
_FIRST_CLIENT: Final = 10.0  # seconds that a fresh group waits for the opener that started it
_YOUNG: Final = 1.0  # seconds: a reader that dies before has no luck where it is, and is started again later
_PAUSE: Final = 0.1  # seconds until then, at first
_PAUSE_MAX: Final = 5.0  # and at most
_NO_ROOM_PAUSE: Final = 1.0  # seconds until a writer that had no room is followed by the next
_RETRY: Final = 0.01  # seconds until a full mailbox is tried again
_FORGET_AGAIN: Final = 1.0  # seconds until outcomes are to be forgotten that could not be

OnReply = Callable[[Message], None]


@dataclass
class _Asked:
    """A request under way: asked again if the actor dies."""

    role: str
    message: Message
    on_reply: OnReply
    told: int = -1
    """In which of its lives (``restarts``) the actor was told."""


class Supervisor:
    """The group of one directory. ``run`` returns its exit code."""

    def __init__(
        self,
        home: Home,
        group: FileLock,
        options: EngineOptions,
        *,
        memory_only: bool,
        group_id: bytes,
        jobs: tuple[str, ...] = (),
    ) -> None:
        self.home, self.options, self.memory_only, self.group_id = home, options, memory_only, group_id
        self._group_lock = group
        self.segments = GroupSegments.create(home.fd, options, group_id)
        parts = self.segments
        self.progress = Progress(parts.board, parts.page, parts.readonly_arenas, parts.logbuf)
        self.epoch = _next_epoch(self.progress.word() >> 32)
        self._past_epochs: frozenset[int] = frozenset()  # of this group, before segments were replaced
        self.loop = Loop()
        self.clients = ClientTable()
        own = os.pidfd_open(os.getpid())
        self.actors = {role: Actor(role, own) for role in ("writer", "checkpointer", "reaper")}
        self.readers = [f"reader-{number}" for number in range(1, options.query_workers + 1)]
        self.actors.update((role, Actor(role, own, EventBell)) for role in self.readers)
        self._jobs = jobs
        self._early_deaths: dict[str, int] = {}  # of a reader: how often it died young, one after the other
        self.phase = "starting"
        self.poison: errors.WriterPoisoned | None = None
        self.refusal: errors.Error | None = None
        self.recovery: Message = {}
        self.exit_code = 0
        self._asked: dict[int, _Asked] = {}
        self._next_ask = 0
        self._waiting: list[Callable[[], None]] = []  # connections whose hello waits for the group to serve
        self._linger: Timer | None = None
        self._status_timer: Timer | None = None
        self._departed: dict[
            bytes, float
        ] = {}  # client ids and when they went; their outcomes are stored still
        self._deaths: tuple[int, int] = (-1, 0)  # LSN, how many writers died at it
        self._killed_at_end = 0  # writers, while the group ended
        self._served = False
        self._flushing = False
        self.requests = requests.Requests(self)
        self.door: Door
        self._watch: DirectoryWatch

    # ------------------------------------------------------------------------------------------- life

    def run(self, say_ready: Callable[[], None]) -> int:
        """Serves to the end. ``say_ready`` is called once the door is open, before the first fork."""
        _raise_open_files()
        self._catch_signals()
        self.door = Door(self.loop, self.home.fd, self.requests.handle, self._connection_left)
        self._watch = DirectoryWatch(self.home)
        if self._watch.fd >= 0:
            self.loop.watch(self._watch.fd, self._directory_changed)
        for role in ("checkpointer", "reaper", *self.readers):
            self.clients.create(secrets.token_bytes(16), 0, role)
        say_ready()
        self._start("writer")
        self._start("checkpointer")
        self._start("reaper")
        for role in self.readers:
            self._start(role)
        self.loop.run()
        return self.exit_code

    def _catch_signals(self) -> None:
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._signals = receiver, sender
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(
            signal.SIGTERM, lambda number, frame: None
        )  # the byte on the wake-up socket is what counts
        self.loop.watch(receiver.fileno(), self._signalled)

    def _signalled(self, events: int) -> None:
        if signal.SIGTERM in self._signals[0].recv(64):
            log.info("SIGTERM: the group drains and ends")
            self.end(forced=True)

    def _directory_changed(self, events: int) -> None:
        self._watch.drain()
        self.is_home_present()

    def is_home_present(self) -> bool:
        """If not (removed, replaced), the group ends at once, with nothing more written (rule L9)."""
        if self.home.is_present() and os.fstat(self._group_lock.fd).st_nlink > 0:
            return True
        log.error("%s was removed or replaced: the group writes nothing more and ends", self.home.path)
        for actor in self.actors.values():
            actor.kill()
        self.phase, self.exit_code = "ending", EXIT_FAILED
        self.loop.stop()
        return False

    # ----------------------------------------------------------------------------------------- actors

    def _start(self, role: str) -> None:
        actor = self.actors[role]
        main, arguments, keep = self._job(role)
        actor.start(main, arguments, keep)
        self.loop.watch(actor.bell.fd, lambda events: self._hear(actor))
        self.loop.watch(actor.pidfd, lambda events: self._died(actor))

    def _job(self, role: str) -> tuple[Callable[..., int], tuple[Any, ...], set[int]]:
        if role == "writer":
            self.bury_the_dead()  # the next generation would wait for what they have pinned
            known = self.clients.everyone()
            for client in known:
                client.known = True
            grants = [client.grant for client in known]
            rebuild = self._has_shown()
            if rebuild:
                self._replace_viewed_arena()
            job = writer.Job(
                self.home,
                self.segments,
                self.options,
                self.epoch,
                self._past_epochs,
                grants,
                rebuild,
                self.memory_only,
            )
            return writer.main, (job,), {self.home.fd, *self.segments.fds(), *(grant[1] for grant in grants)}
        if role == "checkpointer":
            lease = self._own(role)
            return (
                checkpointer.main,
                (checkpointer.Job(self.home, self.segments, self.options, lease.lease),),
                {self.home.fd, *self.segments.fds(), lease.lease},
            )
        if role in self.readers:
            lease = self._own(role)
            keep = {*self.segments.readonly_arenas, lease.lease}
            return reader.main, (reader.Job(self.segments, lease.lease, self._jobs),), keep
        return reaper.main, (), set()

    def _has_shown(self) -> bool:
        """Has this group served a generation, so that the next is built from it?"""
        return self.progress.word() >> 32 in self._past_epochs | {self.epoch}

    def _replace_viewed_arena(self) -> None:
        """No writer runs, and the next will build in the arena that is not the present one."""
        parity = (self.progress.word() + 1) & 1
        views = sum(client.views(parity) for client in self.clients.everyone())
        if not views:
            return
        log.info("%d zero-copy views stand in arena %d: a fresh segment takes its place", views, parity)
        old, self.segments = self.segments, self.segments.with_fresh_arena(parity)
        fresh = self.segments.arenas[parity].readonly_fd
        self.progress.replace_arena(parity, fresh)
        self._past_epochs |= {self.epoch}
        self.epoch = _next_epoch(self.epoch)
        for role in ("checkpointer", *self.readers):
            if self.actors[role].running:
                self.tell(role, {"op": "arena", "parity": parity}, (fresh,))
        old.arenas[parity].close()

    def _own(self, role: str) -> Client:
        client = self.clients.of_role(role)
        if client is None:
            client = self.clients.create(secrets.token_bytes(16), 0, role)
            self._introduce(client)
        return client

    def _hear(self, actor: Actor) -> None:
        for message, fds in actor.hear():
            for fd in fds:
                os.close(fd)
            self._told(actor, message)

    def _told(self, actor: Actor, message: Message) -> None:
        op = message["op"]
        if op == "ready":
            self._ready(actor, message)
        elif op == "answer":
            asked = self._asked.pop(message["id"], None)
            if asked is not None:
                asked.on_reply(message)
        elif op == "known":
            self._known(message["client"])
        elif op == "dead":
            self.farewell(message["client"], "died")
        elif op == "forget":
            for client_id in message["clients"]:
                self._departed.pop(client_id, None)
            self.ask("writer", "forget", self._forgot, clients=message["clients"])
        elif op == "trigger":
            self.requests.checkpoint(message["reason"], lambda reply: None)
        elif op == "refused":
            self._refuse(errors.from_wire(message["error"]))

    def _ready(self, actor: Actor, message: Message) -> None:
        actor.ready = True
        if self.phase == "ending":  # a SIGTERM that came before it had its own handler was lost
            self.tell(actor.role, {"op": "stop"})
            return
        self._tell_what_is_asked(actor)
        if actor.role == "reaper":
            for client in self.clients.outside():
                self._have_watched(client)
            for client_id, when in self._departed.items():
                self._have_forgotten(client_id, when)
        if actor.role != "writer":
            return
        self.recovery = message["recovery"] or self.recovery
        for client_id in message["outcomes"]:
            if self.clients.get(client_id) is None and client_id not in self._departed:
                self._have_forgotten(client_id, time.monotonic())
        for client in self.clients.everyone():
            if client.known:
                self._known(client.client_id)
            else:
                self._introduce(client)
        if self.phase == "starting":
            self.phase = "serving"
            log.info("serving %s", self.home.path)
            self._linger_if_alone()
        waiting, self._waiting = self._waiting, []
        for proceed in waiting:
            proceed()

    def _died(self, actor: Actor) -> None:
        self._hear(actor)  # its last words
        self.loop.unwatch(actor.pidfd)
        self.loop.unwatch(actor.bell.fd)
        pid, code = actor.pid, actor.reap()
        if self.phase == "ending":
            self._ended(actor, code)
            return
        if not self.is_home_present():
            return
        log.warning("%s (pid %d) ended with %s", actor.role, pid, code)
        if actor.role == "writer":
            self._writer_died(code)
            return
        lease = self.clients.of_role(actor.role)
        if lease is not None:
            self.farewell(lease.client_id, "died")
        if actor.role in self.readers:
            self._reader_died(actor)
        else:
            self._start_again(actor)

    def _reader_died(self, actor: Actor) -> None:
        """It is started again: at once, or after a pause that grows if it always dies young."""
        early = time.monotonic() - actor.started < _YOUNG
        deaths = self._early_deaths[actor.role] = self._early_deaths.get(actor.role, 0) + 1 if early else 0
        if deaths == 0:
            self._start_again(actor)
            return
        pause = min(_PAUSE_MAX, _PAUSE * 2 ** min(deaths - 1, 8))
        self.loop.after(pause, lambda: self._start_again(actor))

    def _start_again(self, actor: Actor, pause: float = _PAUSE) -> None:
        """At once, or after a while: /dev/shm may be full, or no descriptor or process to be had now."""
        if self.phase == "ending" or actor.running:
            return
        try:
            self._start(actor.role)
        except (errors.ArenaFullError, OSError) as error:
            if self.phase == "starting" and actor.role == "writer":
                raise  # nobody is inside: whoever waits at the door starts another group
            log.warning("%s can't be started: %s; tried again in %g s", actor.role, error, pause)
            self.loop.after(pause, lambda: self._start_again(actor, min(2 * pause, _PAUSE_MAX)))

    def reader_sockets(self, wanted: int, passing: list[str]) -> tuple[list[str], list[int]]:
        """(roles, the client's ends of fresh socket pairs): ``wanted`` at most, and none of ``passing``.

        Only readers whose lease the writer scans: the pin of another would protect nothing. The
        descriptors are the caller's to close. OSError: none was made.
        """
        roles: list[str] = []
        theirs: list[socket.socket] = []
        for role in self.readers:
            lease = self.clients.of_role(role)
            actor = self.actors[role]
            able = actor.ready and not actor.inbox.crowded and lease is not None and lease.scanned
            if not able or role in passing or len(roles) >= wanted:
                continue
            try:
                ours, other = socket.socketpair()
                theirs.append(other)
                with ours:
                    self.tell(role, {"op": "client"}, (ours.fileno(),))
            except OSError:
                for sock in theirs:
                    sock.close()
                raise
            roles.append(role)
        return roles, [sock.detach() for sock in theirs]

    def _writer_died(self, code: int) -> None:
        if code == EXIT_NO_ROOM:
            self.loop.after(_NO_ROOM_PAUSE, lambda: self._start_again(self.actors["writer"]))
            return
        position = self.progress.position()
        # A kill from outside while nothing was under way says nothing about any record.
        suspicious = code != EXIT_VIEWS_STAND and (position.in_flight or code != -signal.SIGKILL)
        lsn = max(position.logged, position.published)
        before = self._deaths[1] if self._deaths[0] == lsn else 0
        if suspicious:
            self._deaths = lsn, before + 1
        if code == EXIT_REFUSED:
            return  # it has said why: _refuse ends the group
        if suspicious and self._deaths[1] >= POISON_DEATHS:
            self._give_up_writing(position)
            return
        self._start_again(self.actors["writer"])

    def _give_up_writing(self, position: WriterPosition) -> None:
        lsn = position.logged if position.in_flight else position.published + 1
        client = self.progress.client_of_record(position.logged) if position.in_flight else None
        origin = f"of client {client}" if client else "of an unknown client"
        self.poison = errors.WriterPoisoned(
            f"the commit at LSN {lsn} {origin} has killed its writer {POISON_DEATHS} times: "
            f"{self.home.path} takes no more writes; reads go on, and the record is kept in the log. "
            "engine.log says how the writer ended; `memdb wal dump` shows the record; `memdb stop` and a "
            "new open try again",
            lsn=lsn,
            client=client,
        )
        log.critical("%s", self.poison)
        if self.phase == "starting":
            self._refuse(self.poison)
            return
        self.progress.say_read_only()
        self.phase = "read-only"
        for asked_id in [one for one, asked in self._asked.items() if asked.role == "writer"]:
            self._asked.pop(asked_id).on_reply({"error": self.poison.to_wire()})
        for client_ in self.clients.everyone():
            self._known(client_.client_id)
        waiting, self._waiting = self._waiting, []
        for proceed in waiting:
            proceed()

    def _refuse(self, error: errors.Error) -> None:
        """The group can't serve: those who wait, or else the first who comes, are told why, and it ends."""
        log.error("the group ends: %s", error)
        self.exit_code = EXIT_REFUSED
        self.refusal = error
        self._waiting.clear()
        told = self.requests.refuse(error)
        self.loop.after(0 if told else _FIRST_CLIENT / 10, self._close)

    # --------------------------------------------------------------------------------------- requests

    def ask(self, role: str, op: str, on_reply: OnReply, **fields: Any) -> None:
        """Asks an actor; ``on_reply`` gets its answer, or an error if no such actor will come any more."""
        if role == "writer" and self.poison is not None:
            on_reply({"error": self.poison.to_wire()})
            return
        self._next_ask += 1
        self._asked[self._next_ask] = _Asked(role, {"op": op, **fields}, on_reply)
        self._tell_what_is_asked(self.actors[role])

    def _tell_what_is_asked(self, actor: Actor) -> None:
        """An actor that reads the arena is asked once the writer scans its lease: before, its pin would
        protect nothing, and what it reads could be given back under it."""
        lease = self.clients.of_role(actor.role)
        if not actor.ready or (lease is not None and not lease.scanned):
            return
        for asked_id, asked in list(self._asked.items()):
            if asked.role == actor.role and asked.told != actor.restarts:
                asked.told = actor.restarts
                self.tell(actor.role, {**asked.message, "id": asked_id})

    def tell(self, role: str, message: Message, fds: tuple[int, ...] = ()) -> None:
        actor = self.actors[role]
        actor.tell(message, fds)
        self._flush_later()

    def _flush_later(self) -> None:
        waiting = [actor for actor in self.actors.values() if actor.running and not actor.inbox.flush()]
        if waiting and not self._flushing:
            self._flushing = True
            self.loop.after(_RETRY, self._flush_again)

    def _flush_again(self) -> None:
        self._flushing = False
        self._flush_later()

    def when_serving(self, proceed: Callable[[], None], waiting: Connection) -> None:
        """Calls ``proceed`` once the group serves; ``waiting`` is told of the progress until then."""
        if self.phase != "starting":
            proceed()
            return
        self._waiting.append(proceed)
        waiting.say({"status": self.progress.status()})
        if self._status_timer is None:
            self._status_timer = self.loop.after(_STATUS_EVERY, self._say_status)

    def _say_status(self) -> None:
        self._status_timer = None
        if self.phase == "starting" and self._waiting:
            self.requests.say_status(self.progress.status())
            self._status_timer = self.loop.after(_STATUS_EVERY, self._say_status)

    # ---------------------------------------------------------------------------------------- clients

    def admit(self, client: Client, on_known: Callable[[], None]) -> None:
        """``on_known`` is called once the writer scans the client's lease."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._served = True
        client.on_known = on_known
        self.progress.say_clients(len(self.clients.outside()))
        self._introduce(client)
        self._have_watched(client)

    def _introduce(self, client: Client) -> None:
        writing = self.actors["writer"]
        if self.poison is not None:
            self._known(client.client_id)
        elif writing.ready:
            client.known = True
            self.tell(
                "writer",
                {"op": "add_lease", "client": client.client_id, "system": client.role is not None},
                (client.lease,),
            )

    def _have_watched(self, client: Client) -> None:
        if client.pidfd is not None and self.actors["reaper"].ready:
            self.tell("reaper", {"op": "watch", "client": client.client_id}, (client.pidfd,))

    def _have_forgotten(self, client_id: bytes, departed: float) -> None:
        self._departed[client_id] = departed
        if self.actors["reaper"].ready:
            self.tell("reaper", {"op": "gone", "client": client_id, "when": departed})

    def _forgot(self, reply: Message) -> None:
        """So many at once had no room: the rest has its turn in a moment."""
        for client_id in reply.get("left", ()):
            self._have_forgotten(client_id, time.monotonic() - reaper.OUTCOMES_KEPT + _FORGET_AGAIN)

    def _known(self, client_id: bytes) -> None:
        client = self.clients.get(client_id)
        if client is not None:
            client.scanned = True
            if client.role is not None:
                self._tell_what_is_asked(self.actors[client.role])
        if client is not None and client.on_known is not None:
            proceed = client.on_known
            client.on_known = None
            proceed()

    def farewell(self, client_id: bytes, how: str) -> None:
        """A client has gone for good: its lease goes back. ``how``: "left" or "died"."""
        client = self.clients.remove(client_id)
        if client is None:
            return
        self.tell("writer", {"op": "remove_lease", "client": client_id})
        if client.role is None:
            log.debug("client %s (pid %d) %s", client_id.hex(), client.pid, how)
            self.tell("reaper", {"op": "unwatch", "client": client_id})
            self._have_forgotten(client_id, time.monotonic())
            self.progress.say_clients(len(self.clients.outside()))
        if client.connection is not None:
            client.connection.client_id = None
            if how == "died":
                client.connection.close()
        client.close()
        self._linger_if_alone()

    def bury_the_dead(self) -> None:
        """Looks whether a client has died of whom the reaper has not told yet."""
        for client in self.clients.outside():
            if client.pidfd is not None and wire.has_ended(client.pidfd):
                self.farewell(client.client_id, "died")

    def _connection_left(self, connection: Connection) -> None:
        self.requests.left(connection)
        if connection.client_id is not None:
            client = self.clients.get(connection.client_id)
            if client is not None and client.connection is connection:
                client.connection = None
        self._linger_if_alone()

    # -------------------------------------------------------------------------------------------- end

    def will_end_without(self) -> bool:
        """Does the group end at once when its last client goes (linger=0), and has it gone?"""
        return (
            self.options.linger == 0
            and not self.clients.outside()
            and self.phase in ("serving", "read-only", "ending")
        )

    def _linger_if_alone(self) -> None:
        if self.clients.outside() or self.phase not in ("serving", "read-only") or self._linger is not None:
            return
        if self.options.linger is None:
            return
        seconds = self.options.linger if self._served else max(self.options.linger, _FIRST_CLIENT)
        self._linger = self.loop.after(seconds, self._linger_over)

    def _linger_over(self) -> None:
        self._linger = None
        if not self.clients.outside() and self.phase in ("serving", "read-only"):
            self.end(forced=False)

    def end(self, *, forced: bool) -> None:
        """Takes the last checkpoint, then closes the door. Unless ``forced``, a newcomer stops it."""
        if self.phase in ("starting", "ending"):
            self._close()
            return
        if not self.is_home_present():
            return
        if not self.actors["checkpointer"].running or (forced and not self.actors["writer"].running):
            self._close_if_alone(forced, {"error": {"message": "an actor can't be started again"}})
            return
        self.requests.checkpoint("shutdown", lambda reply: self._close_if_alone(forced, reply))

    def _close_if_alone(self, forced: bool, reply: Message) -> None:
        if "error" in reply and self.poison is None:
            log.error("no last checkpoint: %s", reply["error"].get("message"))
        if self.phase == "ending":
            return
        if not forced and (self.clients.outside() or self.requests.is_somebody_joining()):
            self._linger_if_alone()
            return
        self._close()

    def _close(self) -> None:
        if self.phase == "ending":
            return
        self.phase = "ending"
        self.door.close()
        order = [self.actors[role] for role in ("writer", "checkpointer", "reaper", *self.readers)]
        if not any(actor.running for actor in order):
            self._finish()
            return
        for actor in order:
            if actor.running and actor.ready:
                self.tell(actor.role, {"op": "stop"})
            elif actor.running:
                actor.kill(signal.SIGTERM)

    def _ended(self, actor: Actor, code: int) -> None:
        if actor.role == "writer" and code < 0 and code != -signal.SIGTERM:
            self._have_log_ended()
        if not any(one.running for one in self.actors.values()):
            self._finish()

    def _have_log_ended(self) -> None:
        """The last writer was killed before it had ended the log: commits of level `memory` may be in the log
        buffer alone, and the buffer ends with this process. Another one writes them (rule C4), and ends."""
        self._killed_at_end += 1
        has_log = self.options.logged and self._has_shown() and self.poison is None
        if not has_log or self._killed_at_end >= POISON_DEATHS or not self.home.is_present():
            return
        try:
            self._start("writer")
        except (errors.ArenaFullError, OSError) as error:
            log.error("what the killed writer had not written can't be written any more: %s", error)

    def _finish(self) -> None:
        self.door.close_connections()
        self.loop.stop()
        log.info("the group of %s has ended", self.home.path)


def _next_epoch(epoch: int) -> int:
    """Attach epochs have 32 bits, and 0 is none."""
    return epoch + 1 & 0xFFFFFFFF or 1


def _raise_open_files() -> None:
    """Three descriptors a client: take what the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
