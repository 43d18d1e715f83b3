"""`memdb serve`: the engine in the foreground, its signals, and who else wants the directory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from program import COMMAND, environment

import memdb
from memdb.cli import errors

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
_SECONDS = 60


class Served:
    """A `memdb serve --json` and its events."""

    def __init__(self, place: Path, *arguments: str, cwd: Path | None = None) -> None:
        name = str(place) if cwd is None else place.name
        self.process = subprocess.Popen(
            [*COMMAND, "serve", name, "--json", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(), cwd=cwd,
        )  # fmt: skip

    def event(self) -> dict[str, Any]:
        """The next one that is no progress; the timeout of the test ends the wait."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, self.process.communicate(timeout=_SECONDS)
            event: dict[str, Any] = json.loads(line)
            if event["event"] != "starting":
                return event

    def end(self) -> tuple[int, list[dict[str, Any]], bytes]:
        """Exit code, the rest of the events, stderr."""
        out, err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: Any, **how: Any) -> Served:
        started.append(Served(*arguments, **how))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.terminate()
        with contextlib.suppress(ValueError):  # its pipes are closed already
            served.process.communicate(timeout=_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_serves_until_a_signal(
    serve: Callable[..., Served], tmp_path: Path, number: signal.Signals
) -> None:
    place = tmp_path / "data"
    served = serve(place, "--max-memory", "32MiB")
    event = served.event()
    assert event["event"] == "serving" and event["path"] == str(place)
    assert event["pid"] == served.process.pid
    assert event["options"]["max_memory"] == 32 << 20 and event["options"]["linger"] is None
    with memdb.open(place) as db:
        db["k"] = 1
        processes = db.info().processes
        assert processes["supervisor"].pid == served.process.pid
        commands = [" ".join(psutil.Process(one.pid).cmdline()) for one in processes.values()]
        assert all(str(place) in command for command in commands)
        lsn = db.lsn
    os.kill(served.process.pid, number)
    code, events, err = served.end()
    assert (code, err) == (errors.OK, b"")
    assert events[-1]["event"] == "ended" and events[-1]["lsn"] == lsn
    assert [int(file.stem) for file in (place / "checkpoints").iterdir()] == [lsn]
    assert not any(psutil.pid_exists(one.pid) for one in processes.values())
    with memdb.open(place, linger=0) as db:
        assert db["k"] == 1 and db.info().recovery.checkpoint_lsn == lsn


def test_it_stays_whatever_clients_do(serve: Callable[..., Served], tmp_path: Path) -> None:
    place = tmp_path / "data"
    served = serve(place)
    served.event()
    for _ in range(3):
        with memdb.open(place) as db:
            assert db.info().processes["supervisor"].pid == served.process.pid
            assert db.info().options.linger is None
    with pytest.raises(memdb.OptionMismatch, match="linger"):
        memdb.open(place, linger=0)
    script = (
        f"import memdb, os, signal\ndb = memdb.open({str(place)!r})\ndb['k'] = 1\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([COMMAND[0], "-P", "-c", script], env=environment(), timeout=_SECONDS, check=False)
    assert done.returncode == -signal.SIGKILL
    with memdb.open(place) as db:
        assert db["k"] == 1
        writer = db.info().processes["writer"].pid
        os.kill(writer, signal.SIGKILL)
        db["k"] = 2
        assert db.info().processes["supervisor"].pid == served.process.pid


def test_a_relative_name_and_a_package_in_the_folder(serve: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "memdb").mkdir()
    (tmp_path / "memdb" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    (tmp_path / "psutil.py").write_text("raise SystemExit('the wrong module')")
    served = serve(tmp_path / "data", cwd=tmp_path)
    assert served.event()["path"] == str(tmp_path / "data")
    assert str(tmp_path / "data") in " ".join(psutil.Process(served.process.pid).cmdline())


def test_a_second_one_is_refused(serve: Callable[..., Served], cli: Run, tmp_path: Path) -> None:
    served = serve(tmp_path / "data")
    served.event()
    done = cli("serve", "data")
    assert done.returncode == errors.LIMIT and done.stdout == b""
    assert str(served.process.pid).encode() in done.stderr and b"--replace" in done.stderr
    assert served.process.poll() is None


def test_replace_takes_the_place_of_another(serve: Callable[..., Served], tmp_path: Path) -> None:
    place = tmp_path / "data"
    with memdb.open(place, linger=60.0) as db:  # an engine of an open, which this handle keeps up
        db["k"] = 1
        first = serve(place, "--replace")
        assert first.event()["event"] == "serving"
        db["k"] = 2
        assert db.info().processes["supervisor"].pid == first.process.pid
        second = serve(place, "--replace")
        assert second.event()["event"] == "serving"
        assert first.end()[0] == errors.OK
        assert db["k"] == 2
        db["k"] = 3
        assert db.info().processes["supervisor"].pid == second.process.pid


def test_stop_ends_it(serve: Callable[..., Served], cli: Run, tmp_path: Path) -> None:
    served = serve(tmp_path / "data")
    served.event()
    assert json.loads(cli("stop", "data", "--json").stdout) == {"stopped": True}
    code, events, _ = served.end()
    assert code == errors.OK and events[-1]["event"] == "ended"


def test_without_a_log(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(tmp_path / "data", "--no-log")
    assert served.event()["options"]["logged"] is False
    with memdb.open(tmp_path / "data", durability="none") as db:
        db["k"] = 1


def test_a_reader_of_its_output_that_goes_does_not_matter(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(tmp_path / "data")
    served.event()
    assert served.process.stdout is not None
    served.process.stdout.close()
    served.process.terminate()
    assert served.process.wait(timeout=_SECONDS) == errors.OK


def test_a_directory_that_is_removed_ends_it(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(tmp_path / "data")
    served.event()
    shutil.rmtree(tmp_path / "data")
    code, _, err = served.end()
    assert code == errors.DAMAGE and b"removed" in err and b"Traceback" not in err


def test_damage_is_told_on_the_terminal(cli: Run, data: str, tmp_path: Path) -> None:
    cli("set", data, "k", "1")
    cli("stop", data)
    manifest = tmp_path / data / "MANIFEST"
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"?")
    done = cli("serve", data)
    assert done.returncode == errors.DAMAGE, done.stderr
    assert b"CorruptionError" in done.stderr and b"MANIFEST" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--max-memory", "many"], errors.USAGE),
        (["--keep-checkpoints", "1"], errors.USAGE),
        (["--linger", "3"], errors.USAGE),
        (["--no-create"], errors.PLACE),
    ],
)
def test_what_can_not_be(cli: Run, tmp_path: Path, arguments: list[str], code: int) -> None:
    done = cli("serve", "data", *arguments)
    assert done.returncode == code and done.stderr and b"Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_directory_of_other_things(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x")
    assert cli("serve", str(tmp_path)).returncode == errors.PLACE
    assert os.listdir(tmp_path) == ["letter.txt"]
