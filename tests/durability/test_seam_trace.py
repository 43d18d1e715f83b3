"""Nothing goes past the seam for files: what it records of an engine on real files is what strace sees."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from durability.recording import RecordingFiles
from durability.rig import Killed, Machine, options

from memdb.durability.files import MemoryFiles, RealFiles

TESTS = Path(__file__).resolve().parent.parent
READS = re.compile(
    "access|close|dup[23]?|epoll_.*|execve|faccessat2?|fadvise64|fcntl|f?l?getxattr|flock|f?l?stat|f?statfs|statx"
    "|getcwd|getdents64|inotify_add_watch|ioctl|lseek|newfstatat|p?poll|p?select6?|preadv?2?|pread64|readv?"
    "|readlink|readlinkat"
)
CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+|\?)", re.DOTALL)
ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")
Change = list[object]


def unescape(text: str) -> str:
    """strace -xx writes every string in hex, paths of descriptors too."""
    return ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("latin-1"), text)


def whole_lines(text: str) -> Iterator[str]:
    """Calls in the order in which they ended: one that another thread's interrupts is put together."""
    open_calls: dict[str, str] = {}
    for raw in text.splitlines():
        pid, _, call = raw.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            open_calls[pid] = call.removesuffix("<unfinished ...>")
        elif call.startswith("<..."):
            yield open_calls.pop(pid) + call.partition(" resumed>")[2]
        else:
            yield call


def arguments(rest: str) -> list[str]:
    """At the commas outside of brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, letter in enumerate(rest):
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "[{(<":
            depth += 1
        elif not quoted and letter in "]})>":
            depth -= 1
        elif letter == "," and depth == 0 and not quoted:
            parts.append(rest[start:at].strip())
            start = at + 1
    return [*parts, rest[start:].strip()]


def changes_in(text: str, directory: str) -> Iterator[Change]:
    """What changed below ``directory``, in the recording's words; a call that it has no word for, by its own
    name."""
    for call in whole_lines(text):
        found = CALL.match(call)
        if found is None or READS.fullmatch(found["name"]) or found["result"] in ("-1", "?"):
            continue
        change = change_of(found["name"], arguments(found["rest"]), int(found["result"]), directory)
        if change is not None:
            yield change


def below(directory: str, *parts: str) -> str | None:
    """The path within the directory that descriptor (``3<path>``) and name make; None: elsewhere."""
    base = unescape(parts[0]).partition("<")[2].rpartition(">")[0].removesuffix(" (deleted)")
    path = base if len(parts) == 1 else os.path.join(base, unescape(parts[1]).strip('"'))
    path = os.path.normpath(path)
    if path == directory:
        return ""
    return path.removeprefix(f"{directory}/") if path.startswith(f"{directory}/") else None


def change_of(name: str, given: list[str], result: int, directory: str) -> Change | None:
    if name in ("openat", "openat2"):
        path = below(directory, given[0], given[1])
        writing = "O_CREAT" in given[2] or "O_TRUNC" in given[2]
        return ["create", path] if path is not None and writing else None
    if name in ("renameat", "renameat2"):
        old, new = below(directory, *given[0:2]), below(directory, *given[2:4])
        return ["rename", old, new] if (old, new) != (None, None) else None
    if name in ("unlinkat", "mkdirat"):
        path = below(directory, given[0], given[1])
        return [name.removesuffix("at"), path] if path is not None else None
    if name == "mmap" and not ("MAP_SHARED" in given[3] and "PROT_WRITE" in given[2]):
        return None
    inside = [path for path in (below(directory, one) for one in given if "<" in one) if path is not None]
    named = [one for one in given if one.startswith('"') and unescape(one).strip('"').startswith(directory)]
    if not inside and not named:
        return None
    if name == "pwrite64":
        data = bytes.fromhex(given[1].partition('"')[2].rpartition('"')[0].replace("\\x", ""))
        return ["write", inside[0], int(given[3]), result, data.hex()]
    if name in ("fdatasync", "fsync"):
        is_directory = inside[0] in ("", "wal", "checkpoints", "quarantine")
        return ["syncdir" if is_directory and name == "fsync" else "sync", inside[0]]
    return [name, *inside, *given]


def run(directory: Path, *words: str) -> tuple[list[Change], list[Change]]:
    """(recorded at the seam, seen by strace) of the workload."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: that nothing goes past the seam is NOT checked here")
    home, log = directory / "db", directory / "strace.txt"
    home.mkdir()
    command = [strace, "-f", "-y", "-xx", "-s", "32", "-e", "trace=%desc,%file", "-e", "signal=none"]
    command += ["-o", str(log), sys.executable, "-m", "durability.seam_workload", str(home), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: NOT checked ({done.stderr.splitlines()[0]})")
    assert done.returncode == 0, done.stderr
    recorded = [json.loads(line) for line in done.stdout.splitlines()]
    return recorded, list(changes_in(log.read_text(), str(home.resolve())))


def test_the_recorded_trace_is_what_strace_sees(tmp_path: Path) -> None:
    recorded, seen = run(tmp_path)
    every = {"create", "write", "sync", "rename", "unlink", "mkdir", "syncdir"}
    assert {str(one[0]) for one in recorded} == every
    for number, (ours, theirs) in enumerate(zip(recorded, seen, strict=False)):
        assert ours == theirs, f"change {number} differs"
    assert len(recorded) == len(seen)


def test_with_the_sync_thread_and_the_housekeeping_too(tmp_path: Path) -> None:
    """Several threads: which of two calls ended first is seen differently; what was done to a file is not."""
    recorded, seen = run(tmp_path, "threads")
    assert Counter(map(str, recorded)) == Counter(map(str, seen))
    for path in {str(one[1]) for one in seen if one[0] == "write"}:
        ours = [one for one in recorded if one[1] == path and one[0] == "write"]
        assert ours == [one for one in seen if one[1] == path and one[0] == "write"], path


def test_the_kernels_own_writes_fail_and_die_at_the_seam(tmp_path: Path) -> None:
    """With a real descriptor the commit loop writes by itself; faults and kill points reach it there."""
    real = RealFiles.at(str(tmp_path))
    files = RecordingFiles(real)
    machine = Machine(files, options()).start()
    machine.set("a", b"1")
    before = len(files.trace.operations)

    def fail(kind: str, path: str) -> None:
        if kind == "write" and path.startswith("wal/"):
            raise OSError(errno.ENOSPC, "no room")

    files.hook = fail
    machine.settle(machine.submit([{"op": "set", "key": b"\x01\x01b\x00", "value": b"2\0"}]))
    assert machine.event == "failed" or machine.engine.run(0.0) == "failed"
    assert machine.engine._wal.failure.errno == errno.ENOSPC
    assert len(files.trace.operations) == before, "what failed is not in the trace"

    def die(kind: str, path: str) -> None:
        raise Killed

    files.hook = die
    with pytest.raises(Killed):
        machine.engine.way_back()
    files.hook = None
    with pytest.raises(Killed):
        files.listdir()
    after = Machine(files=RecordingFiles(real), options=options()).start()
    assert after.names() == {"a": b"1"}
    real.close()


def test_a_recording_holds_all_that_memory_files_hold() -> None:
    """Done again on an empty directory, the recorded operations give the same files."""
    inner = MemoryFiles()
    files = RecordingFiles(inner)
    machine = Machine(files, options()).start()
    for turn in range(6):
        machine.set(f"k{turn}", b"x" * 700, ("memory", "os", "full")[turn % 3])
    machine.engine.checkpoint()
    machine.engine.clear_wal()
    machine.engine.stop()
    again = MemoryFiles()
    handles = {}
    for one in files.trace.operations:
        if one.kind == "create":
            handles[one.number] = again.open(one.path, create=True)
        elif one.kind == "write":
            handles[one.number].write_all(one.data, one.offset)
        elif one.kind == "rename":
            again.rename(one.path, one.target)
        elif one.kind in ("unlink", "mkdir"):
            getattr(again, one.kind)(one.path)
    for directory in ("", "wal", "checkpoints"):
        assert again.listdir(directory) == inner.listdir(directory)
        for name in again.listdir(directory):
            path = f"{directory}/{name}".lstrip("/")
            assert again.read(path) == inner.read(path), path
