"""celery's prefork workers over a broker of files, while workers and the database's writer are killed: each
task counts exactly once."""

import signal
from pathlib import Path

import pytest
from life.stage import PROGRAMS, Program, check_quiet, eventually, kill_actor, needs, package_path

import memdb

pytestmark = [pytest.mark.life, needs("celery")]
JOBS = 150


def done(db: memdb.Database) -> int:
    return int(db.get("count", 0))


def test_every_task_counts_once(data: Path, tmp_path: Path) -> None:
    broker = tmp_path / "broker"
    broker.mkdir()
    environment = {**package_path(PROGRAMS), "LIFE_DATA": str(data), "LIFE_BROKER": str(broker)}
    with memdb.open(data, max_memory="64MiB", linger=0.5) as db:
        with Program.python(
            tmp_path / "send", str(PROGRAMS / "tasks.py"), "send", str(JOBS), env=environment
        ) as sender:
            assert sender.wait() == 0, sender.stderr
        options = ["-A", "tasks", "worker", "-P", "prefork", "-c", "2", "--loglevel", "WARNING"]
        with Program.python(tmp_path / "work", "-m", "celery", *options, env=environment) as program:
            eventually(lambda: done(db) > JOBS // 6, "a sixth of the jobs")
            kill_actor(db)
            eventually(lambda: done(db) > JOBS // 2, "half of the jobs")
            kill_actor(db, "supervisor")
            eventually(lambda: done(db) >= JOBS, "all jobs")
            eventually(lambda: db["delivered"] >= JOBS + JOBS // 10, "the ones that were sent twice")
            program.signal(signal.SIGTERM)
            assert program.wait() == 0, program.stderr
            assert program.stderr.count("exited with 'signal 9") == 2, program.stderr
            assert "memdb" not in program.stderr, program.stderr  # celery traces its own frames
        assert {key[1] for key in db.keys(prefix=("died",))} == {41, 82}
        assert db["count"] == JOBS and db["delivered"] == JOBS + JOBS // 10
        assert sorted(key[1] for key in db.keys(prefix=("done",))) == list(range(JOBS))
        assert len({db["done", job] for job in range(JOBS)}) >= 3
    check_quiet(sender.stderr)
