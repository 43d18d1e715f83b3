"""Ctrl-C to the whole foreground process group, a hundred times: no actor dies, nothing acknowledged is lost,
and what the user sees is clean."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from life.stage import PROGRAMS, check_quiet, eventually, package_path

import memdb

pytestmark = pytest.mark.life
KINDS = ("set", "transact", "iterate")
TURNS = 100


class Foreground:
    """Some programs in one process group, as a shell's job, that has started the engine itself."""

    def __init__(self, data: Path, place: Path) -> None:
        place.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._files = {kind: (place / f"{kind}.out", place / f"{kind}.err") for kind in KINDS}
        for kind in KINDS:
            out, err = (path.open("wb") for path in self._files[kind])
            group = self.processes[0].pid if self.processes else 0
            command = [sys.executable, "-P", str(PROGRAMS / "foreground.py"), str(data), kind]
            with out, err:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        env=package_path(),
                        process_group=group,
                    )
                )

    def interrupt(self) -> None:
        os.killpg(self.processes[0].pid, signal.SIGINT)

    def texts(self, which: int) -> dict[str, str]:
        """stdout (0) or stderr (1) of each."""
        return {kind: files[which].read_text() for kind, files in self._files.items()}

    def all_say(self, line: str) -> None:
        def said() -> bool:
            assert all(one.poll() is None for one in self.processes), self.texts(1)
            return all(f"{line}\n" in text for text in self.texts(0).values())

        eventually(said, line)

    def finish(self) -> None:
        for one in self.processes:
            one.kill()
            one.wait()


def test_ctrl_c_a_hundred_times(data: Path, tmp_path: Path) -> None:
    with memdb.open(data, max_memory="64MiB", linger=0) as db:
        db.set_many((("row", n), 0) for n in range(500))
    group = Foreground(data, tmp_path / "group")
    try:
        group.all_say("started")
        with memdb.open(data, max_memory="64MiB", linger=0.5) as db:
            engine = {role: one.pid for role, one in db.info().processes.items()}
            for turn in range(1, TURNS + 1):
                group.interrupt()
                group.all_say(f"interrupted {turn}")
                db.set_many((("row", n), turn) for n in range(500))
            group.all_say("ok")
            group.interrupt()
            for one in group.processes:
                assert one.wait(30) == -signal.SIGINT, group.texts(1)
            after = db.info().processes
            assert {role: one.pid for role, one in after.items()} == engine, "an actor has died"
            assert not any(one.restarts for one in after.values())
    finally:
        group.finish()
    for kind, text in group.texts(1).items():
        assert text.count("Traceback") == 1 and text.endswith("KeyboardInterrupt\n"), (kind, text)
        check_quiet(text.replace("Traceback", ""))
    assert "Traceback" not in (data / "engine.log").read_text()
