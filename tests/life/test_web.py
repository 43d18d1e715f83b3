"""gunicorn and uvicorn under load while their workers and the database's writer are killed and they reload:
each request's effect is there once."""

import http.client
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from life.stage import PROGRAMS, Program, check_quiet, eventually, kill_actor, needs, package_path

import memdb

pytestmark = pytest.mark.life


class Load:
    """Threads that send numbered requests, each until it is answered; the number of its attempts is kept."""

    def __init__(self, port: int) -> None:
        self._port, self._stop = port, threading.Event()
        self.attempts: dict[str, int] = {}
        self.workers: set[int] = set()
        self.bad: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self, lane: int) -> None:
        number = 0
        while not self._stop.is_set():
            request, number = f"{lane}-{number}", number + 1
            attempts = 0
            while not self._send(request):
                attempts += 1
            self.attempts[request] = attempts + 1

    def _send(self, request: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("POST", f"/{request}")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.bad.append(f"{request}: {answer.status} {body[:200]!r}")
            else:
                self.workers.add(int(body))
        except (OSError, http.client.HTTPException):  # its worker was killed, or is being replaced
            return False
        finally:
            connection.close()
        return True

    def more(self, count: int) -> None:
        """Returns once so many more were answered."""
        goal = len(self.attempts) + count
        eventually(lambda: len(self.attempts) >= goal, f"{count} more requests answered")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def served(data: Path, tmp_path: Path) -> Iterator[memdb.Database]:
    with memdb.open(data, max_memory="64MiB", linger=0.5) as db:
        yield db


def environment(data: Path) -> dict[str, str]:
    return {**package_path(PROGRAMS), "LIFE_DATA": str(data)}


def port_of(program: Program, pattern: str) -> int:
    eventually(lambda: re.search(pattern, program.stderr), "the server listens")
    found = re.search(pattern, program.stderr)
    assert found
    return int(found[1])


def worker_of(program: Program, load: Load) -> int:
    """A worker that has answered and lives."""
    children = {one.pid for one in psutil.Process(program.process.pid).children(recursive=True)}
    return next(iter(children & load.workers))


def hurt_and_compare(program: Program, load: Load, db: memdb.Database, *, reload: bool) -> None:
    try:
        load.more(30)
        for _ in range(2):
            kill_actor(db)
            load.more(20)
            os.kill(worker_of(program, load), signal.SIGKILL)
            load.more(20)
        if reload:
            program.signal(signal.SIGHUP)
            load.more(30)
        kill_actor(db, "supervisor")
        load.more(20)
    finally:
        load.stop()
    assert not load.bad
    assert db["count"] == len(load.attempts)
    assert {key[1] for key in db.keys(prefix=("done",))} == set(load.attempts)
    for request, attempts in load.attempts.items():
        assert 1 <= db["single", request] <= attempts, (request, attempts)


@needs("gunicorn")
@pytest.mark.parametrize("preload", [False, True], ids=["each worker opens", "preload"])
def test_gunicorn(served: memdb.Database, data: Path, tmp_path: Path, preload: bool) -> None:
    """A request that was answered at its first attempt was counted exactly once, also by the single call."""
    options = ["--workers", "2", "--bind", "127.0.0.1:0", *(["--preload"] if preload else []), "web:app"]
    with Program.python(tmp_path / "www", "-m", "gunicorn", *options, env=environment(data)) as program:
        load = Load(port_of(program, r"Listening at: http://127\.0\.0\.1:(\d+)"))
        hurt_and_compare(program, load, served, reload=True)
        assert len(load.workers) >= 4  # two, and those that took the place of the killed and of the reloaded
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        check_quiet(program.stderr)


@needs("uvicorn")
def test_uvicorn(served: memdb.Database, data: Path, tmp_path: Path) -> None:
    options = ["--workers", "2", "--host", "127.0.0.1", "--port", "0", "--no-access-log", "web:asgi"]
    with Program.python(tmp_path / "www", "-m", "uvicorn", *options, env=environment(data)) as program:
        load = Load(port_of(program, r"running on http://127\.0\.0\.1:(\d+)"))
        hurt_and_compare(program, load, served, reload=False)
        program.signal(signal.SIGTERM)
        assert program.wait() in (0, -signal.SIGTERM)  # by version: it may raise the signal again at the end
        check_quiet(program.stderr)
