"""A fixed life of a database on a disk that fails, and the verdict: what was acknowledged, what may be there,
what an engine has to say.

Owns: the workload (commits at all levels, rotation, checkpoints, retention, compaction, a successor, recovery
from disk, optionally a log that fails and its way back), the model that knows which states are allowed,
and the
checks.

The model, after each step: ``history`` holds every state that was ever certain, in order; a commit that was
answered as in doubt adds a state that may be. Promises are positions in it: nothing before ``acked`` may come
back after a kill, nothing before ``durable`` after a power cut.
"""

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from durability.faulty import DELAY, DELAY_SECONDS, SHORT, Call, Disk, Fault
from durability.rig import Machine, key, options

from memdb import errors
from memdb.durability import manifest, segments
from memdb.durability.files import Files, MemoryFiles
from memdb.shm import _kernel as kernel

__all__ = ["Story", "Violation", "calls_of", "play", "small_segments"]

State = dict[str, bytes]
_REFUSED = frozenset({-1, -11})
_UNKNOWN = -8
_NONE = -100
_ROUNDS = 4


@contextlib.contextmanager
def small_segments() -> Iterator[None]:
    """Logs begin with 64 KiB instead of 1 MiB: a life takes a fifth of the time, and nothing else changes."""
    usual, segments.FIRST_BYTES = segments.FIRST_BYTES, 64 << 10  # type: ignore[misc]
    try:
        yield
    finally:
        segments.FIRST_BYTES = usual  # type: ignore[misc]


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Model:
    """What may be there."""

    history: list[State] = field(default_factory=lambda: [{}])
    doubtful: list[State] = field(default_factory=list)
    acked: int = 0
    durable: int = 0

    @property
    def now(self) -> State:
        return self.history[-1]

    def after(self, changes: dict[str, bytes | None], base: State) -> State:
        merged = {**base, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def certain(self, state: State, level: str) -> None:
        self.history.append(state)
        self.doubtful.clear()  # the log is a prefix: what was in doubt before a later commit is decided
        if level != "memory":
            self.acked = len(self.history) - 1
        if level == "full":
            self.durable = len(self.history) - 1

    def doubt(self, changes: dict[str, bytes | None]) -> None:
        base = self.doubtful[-1] if self.doubtful else self.now
        self.doubtful.append(self.after(changes, base))

    def found(self, state: State, since: int, what: str) -> None:
        """A start has found this: from now on it is so."""
        if state not in self.history[since:] and state not in self.doubtful:
            raise Violation(f"{what}: {state}, allowed were {self.history[since:]} and {self.doubtful}")

    def settle(self, state: State) -> None:
        self.history.append(state)
        self.doubtful.clear()


class Story:
    """One life under one fault."""

    def __init__(self, disk: Disk, *, broken_log: bool = False) -> None:
        self.disk, self.broken_log = disk, broken_log
        self.model = Model()
        self.machine = Machine(disk.watch(MemoryFiles()), options(keep_checkpoints=2, keep_segments=0))
        self.told: list[errors.Error | OSError] = []
        self.started = False
        disk.delay = lambda: self.machine.clock.advance(DELAY_SECONDS)

    # ---------------------------------------------------------------------------------------- the workload

    def play(self) -> None:
        """All steps; afterwards the disk is sound, and everything must be well again."""
        self._start(lambda: self.machine.start())
        for step in (self._commits, self._checkpoints, self._heir, self._disk, self._end):
            step()
        self._recover()

    def _commits(self) -> None:
        self._set("a", 1, "memory")
        self._set("b", 1, "os")
        self._set("c", 1, "full")
        self._together()
        self._try(self.machine.engine.rotate)
        self._set("d", 2, "full")
        self._set("a", None, "os")
        if self.broken_log:
            self._break_log()

    def _break_log(self) -> None:
        """The log fails by itself here, and the fault may hit the way back from it."""
        self.machine.engine._wal._failed("wal/planned", errno.EIO)
        self._set("w", 1, "full")
        for _ in range(2):  # the second attempt is for the fault
            self.machine.clock.advance(10)
            self._run()

    def _checkpoints(self) -> None:
        self._try(self.machine.engine.checkpoint)
        self._set("e", 3, "full")
        self._try(self.machine.engine.rotate)
        self._try(self.machine.engine.checkpoint)
        self._set("f", 3, "os")
        self._try(self.machine.engine.checkpoint)
        self._set("f", 4, "memory")
        if self._try(self.machine.engine.sync):
            self.model.certain(self.model.now, "full")
        self._try(self.machine.engine.compact)
        self._set("g", 5, "full")
        self._try(self.machine.engine.clear_wal)

    def _heir(self) -> None:
        """The writer dies, the group goes on."""
        before = self.machine
        files = self.disk.watch(before.files.survivor())  # type: ignore[attr-defined]
        self.machine = before.successor()
        self._move(files)
        self._start(lambda: self.machine.start(), since=len(self.model.history) - 1)
        self._set("h", 6, "full")

    def _disk(self) -> None:
        """All processes die."""
        self._reboot(self.machine.files.survivor(), self.model.acked)  # type: ignore[attr-defined]
        self._set("i", 7, "full")
        self._set("b", 7, "os")

    def _end(self) -> None:
        self.machine.engine.stop()
        self._reboot(self.machine.files.survivor(), self.model.acked)  # type: ignore[attr-defined]
        self._set("j", 8, "full")

    # ------------------------------------------------------------------------------------------- its parts

    def _move(self, files: Files) -> None:
        engine = self.machine.engine
        self.machine.files = engine._files = engine._wal.files = files

    def _start(self, start: Callable[[], object], since: int = 0) -> None:
        """A start; one that is refused is repeated as the next opener does, once the disk is sound."""
        self.started = True
        try:
            start()
        except (errors.Error, OSError) as error:
            self._told(error)
            again = self.machine.files.survivor()  # type: ignore[attr-defined]
            if self.disk.fault is not None and self.disk.fault.sticky:
                self.disk.lift()
            self._reboot(again, self.model.acked)
            return
        self._check_failure()
        self.model.found(self.machine.names(), since, "after a start")
        self.model.settle(self.machine.names())

    def _reboot(self, files: MemoryFiles, since: int) -> None:
        self.machine = self.machine.reboot(self.disk.watch(files))
        try:
            self.machine.start()
        except (errors.Error, OSError) as error:
            self._told(error)
            self.disk.lift()
            self.machine = self.machine.reboot(self.disk.watch(files.survivor()))
            try:
                self.machine.start()
            except (errors.Error, OSError) as second:
                raise Violation(f"a sound disk, and the start is refused: {second!r}") from second
        self._check_failure()
        self.model.found(self.machine.names(), since, "after a kill")
        self.model.settle(self.machine.names())

    def _set(self, name: str, value: int | None, level: str) -> None:
        self._settle([self._submit(name, value, level)])

    def _submit(self, name: str, value: int | None, level: str) -> tuple[int, dict[str, bytes | None], str]:
        data = None if value is None else b"%d" % value * 30
        if data is None:
            operation = {"op": "delete", "key": key(name)}
        else:
            operation = {"op": "set", "key": key(name), "value": data + b"\0"}
        return self.machine.submit([operation], level), {name: data}, level

    def _together(self) -> None:
        """Several in one round: a `full` one that fails takes those behind it along."""
        self._settle(
            [self._submit("p", 1, "full"), self._submit("q", 1, "os"), self._submit("r", 1, "memory")]
        )

    def _settle(self, sent: list[tuple[int, dict[str, bytes | None], str]]) -> None:
        failed_before = self.machine.engine._failure is not None
        final_before = isinstance(self.machine.engine._failure, errors.LogFailed)
        answers: list[int] = []
        for _ in range(_ROUNDS):
            self._run()
            answers = [self._answer(request) for request, _, _ in sent]
            if _NONE not in answers:
                break
        for status, (_, changes, level) in zip(answers, sent, strict=True):
            if status == 0:
                if (
                    failed_before
                    and self.machine.engine._failure is not None
                    and None not in changes.values()
                ):
                    raise Violation("a write was acknowledged while the engine is read-only")
                self.model.certain(self.model.after(changes, self.model.now), level)
            elif status == _UNKNOWN:
                if final_before:
                    raise Violation("a commit after the failure is answered as in doubt: it was not done")
                self.model.doubt(changes)
            elif status not in _REFUSED:
                raise Violation(f"a commit was answered with {status}")
        self._check_visible()
        self._check_failure()

    def _answer(self, request: int) -> int:
        state, status, found, _, _ = kernel.lease_result(self.machine.lease, request % 64)
        return int(status) if state == 3 and found == request else _NONE

    def _run(self) -> None:
        engine, clock = self.machine.engine, self.machine.clock
        failed = engine._failure
        for _ in range(2):
            try:
                event = engine.run(clock.monotonic())
            except (errors.Error, OSError) as error:
                raise Violation(f"the commit loop was left by {error!r}: the writer would end") from error
            if isinstance(failed, errors.LogFailed) and engine._failure is None:
                self.model.doubtful.clear()  # the new log begins with what was published
            if event not in ("failed", "control"):
                return

    def _try(self, operation: Callable[[], object]) -> bool:
        try:
            operation()
        except (errors.Error, OSError) as error:
            self._told(error)
            self._run()
            self._check_visible()
            return False
        self._check_visible()
        return True

    # ------------------------------------------------------------------------------------------ the checks

    def _told(self, error: errors.Error | OSError) -> None:
        self.told.append(error)
        if not self.disk.struck and not self.broken_log:
            raise Violation(f"nothing had failed, and {error!r} was raised") from error
        if isinstance(error, errors.Error):
            self._check_text(error)

    def _check_text(self, error: errors.Error) -> None:
        fault = self.disk.fault
        number = getattr(error, "errno", None)
        file = getattr(error, "file", None)
        planned = "wal/planned" in str(error)
        if isinstance(error, errors.CorruptionError):
            raise Violation(f"an unreadable or unwritable file is no damage: {error}")
        if number is None or not file:
            raise Violation(f"{error!r} does not say which file and errno")
        if fault is not None and fault.code > 0 and not planned and number != fault.code:
            raise Violation(f"{error!r} has errno {number}, it was {fault}")
        if os.strerror(number) not in str(error):
            raise Violation(f"{error!r} does not say what happened: {os.strerror(number)}")
        if not any(word in str(error) for word in ("look at the disk", "free some", "Free some", "ulimit")):
            raise Violation(f"{error!r} does not say the next step")

    def _check_failure(self) -> None:
        failure = self.machine.engine.info()["wal"]["failure"]
        if failure is not None:
            error = errors.from_wire(failure)
            self.told.append(error)
            self._check_text(error)

    def _check_visible(self) -> None:
        found = self.machine.names()
        if found != self.model.now:
            raise Violation(f"readers see {found}, committed is {self.model.now}")

    # ------------------------------------------------------------------------------------- and at the end

    def fork(self) -> None:
        """What the next opener finds on a sound disk: after a kill, after a power cut, and after both."""
        files = self.machine.files
        assert isinstance(files, MemoryFiles)
        self._reopen(files.survivor(), self.model.acked, "killed")
        for keep in (lambda *_: False, _random_keep(len(self.disk.calls))):
            self._reopen(files.crash(keep), self.model.durable, "power cut")

    def _reopen(self, files: MemoryFiles, since: int, what: str) -> None:
        model = Model(list(self.model.history), list(self.model.doubtful))
        again = self.machine.reboot(files)
        try:
            again.start()
        except (errors.Error, OSError) as error:
            raise Violation(f"{what}: the next start is refused: {error!r}") from error
        model.found(again.names(), since, what)
        if again.engine.store.audit():
            raise Violation(f"{what}: the arena is not sound")
        expected = {**again.names(), "later": b"1"}
        again.set("later", b"1", "full")
        last = again.reboot(files.crash(lambda *_: False))
        try:
            last.start()
        except (errors.Error, OSError) as error:
            raise Violation(f"{what}, a power cut later: the start is refused: {error!r}") from error
        if last.names() != expected:
            raise Violation(f"{what}, a power cut later: {last.names()} instead of {expected}")
        _check_leftovers(last.files)

    def _recover(self) -> None:
        """The disk is sound: the engine finds its way back by itself."""
        self.disk.lift()
        for _ in range(2):
            self.machine.clock.advance(10)
            self._run()
        if self.machine.engine._failure is not None:
            raise Violation(f"no way back: {self.machine.engine._failure}")
        self._check_visible()
        self.model.doubtful.clear()
        self._set("z", 9, "full")
        if self.model.now.get("z") is None:
            raise Violation("after the way back a commit is refused")
        self._try(self.machine.engine.checkpoint)
        self.fork()


def _random_keep(seed: int) -> Callable[[str, int], bool]:
    chance = random.Random(seed)
    return lambda path, sector: chance.random() < 0.5


def _check_leftovers(files: Files) -> None:
    named = manifest.load(files)
    assert named is not None
    wal = {f"{one.number:016d}.log" for one in named.segments}
    if set(files.listdir("wal")) != wal:
        raise Violation(f"wal/ holds {files.listdir('wal')}, the manifest names {sorted(wal)}")
    kept = {one.path.partition("/")[2] for one in named.checkpoints}
    if set(files.listdir("checkpoints")) != kept:
        raise Violation(
            f"checkpoints/ holds {files.listdir('checkpoints')}, the manifest names {sorted(kept)}"
        )


def play(fault: Fault | None, *, broken_log: bool = False) -> Story:
    """Plays the life under a fault; Violation with the fault in its text. The story, for its figures."""
    story = Story(Disk(fault), broken_log=broken_log)
    try:
        with small_segments():
            story.play()
    except Violation as violation:
        raise Violation(f"{fault}{', log broken' if broken_log else ''}: {violation}") from violation
    except (errors.Error, OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise Violation(f"{fault}{', log broken' if broken_log else ''}: {error!r} escaped") from error
    reached = (
        fault is not None and len(story.disk.calls) >= fault.at
    )  # marks come by time: calls may be fewer
    if fault is not None and reached and not story.disk.struck:
        raise Violation(f"{fault} was not hit")
    if fault is not None and fault.code in (SHORT, DELAY) and story.told and not broken_log:
        raise Violation(f"{fault} is no error, but {story.told[0]!r}")
    return story


def calls_of(*, broken_log: bool = False) -> list[Call]:
    """The calls of the undisturbed life at which a fault may strike."""
    disk = play(None, broken_log=broken_log).disk
    return disk.calls[: disk.until]
