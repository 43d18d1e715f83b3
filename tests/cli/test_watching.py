"""`memdb readers` and `memdb top`: figures that are the engine's own, and an engine that does not notice."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.terminal import Terminal

import memdb
from memdb.cli import errors
from memdb.cli.asking import Engine
from memdb.cli.watching import Watch

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_readers(cli: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db["k"] = b"x" * 10_000
        assert json.loads(cli("readers", data, "--json").stdout) == {"running": True, "readers": []}
        with db.snapshot() as snap:
            db["k"] = b"y" * 10_000
            db["k"] = b"z" * 10_000
            (found,) = json.loads(cli("readers", data, "--json").stdout)["readers"]
            assert found["pid"] == os.getpid() and found["lsn"] == snap.lsn and found["pins"] == 1
            assert found["bytes"] >= 10_000 and 0 <= found["age"] < 60 and found["kind"] == "snapshot"
            shown = cli("readers", data).stdout
            assert str(os.getpid()).encode() in shown and b"bytes pinned" in shown
        assert b"nobody" in cli("readers", data).stdout


def test_nobody_reads_where_no_engine_runs(cli: Run, data: str) -> None:
    cli("set", data, "k", "1")
    cli("stop", data)
    done = cli("readers", data, "--json")
    assert done.returncode == errors.OK and json.loads(done.stdout) == {"running": False, "readers": []}
    for probe in ([], ["--probe"]):  # a probe is a client, and has to wait until there is an engine
        done = cli("top", data, "--once", "--json", *probe)
        (tick,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert tick["running"] is False and tick["probe"] is None
    assert b"looking again" not in cli("top", data, "--once").stdout
    assert json.loads(cli("stop", data, "--json").stdout) == {"stopped": False}
    for name in ("readers", "top"):
        assert cli(name, "nowhere").returncode == errors.PLACE


def test_rates_are_differences_of_counters(data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db, Engine(str(tmp_path / data)) as engine:
        db["k"] = 0
        watch = Watch(engine)
        first = watch.tick()
        assert first["running"] and set(first["rates"].values()) == {None}
        logged = db.info().wal.bytes_logged
        for number in range(100):
            db["k"] = number
        db.delete("missing")
        second = watch.tick()
        seconds = second["interval_seconds"]
        assert second["rates"]["commits"] * seconds == pytest.approx(100, abs=1e-6)
        assert second["rates"]["rejected"] * seconds == pytest.approx(1, abs=1e-6)
        assert second["rates"]["bytes_logged"] * seconds == pytest.approx(
            db.info().wal.bytes_logged - logged, rel=0.5
        )
        assert second["keys"] == 1 and second["clients"] == 1
        assert 0 < second["control_seconds"] < 60
        assert second["processes"]["writer"]["pid"] == db.info().processes["writer"].pid


def test_conflicts_are_counted(data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db, Engine(str(tmp_path / data)) as engine:
        db["k"] = 0
        watch = Watch(engine)
        watch.tick()
        with pytest.raises(memdb.ConflictError), db.transaction() as tx:
            tx["k"] += 1
            db["k"] = 5
        tick = watch.tick()
        assert tick["rates"]["conflicts"] * tick["interval_seconds"] == pytest.approx(1, abs=1e-6)


def test_what_is_not_synced(data: str, tmp_path: Path) -> None:
    with (
        memdb.open(tmp_path / data, sync_interval=3600.0, durability="os") as db,
        Engine(str(tmp_path / data)) as engine,
    ):
        watch = Watch(engine)
        db["k"] = 1
        db.sync()
        assert watch.tick()["unsynced"]["commits"] == 0
        db["k"] = 2
        first = watch.tick()["unsynced"]
        second = watch.tick()["unsynced"]
        assert first["commits"] >= 1 and second["seconds"] > first["seconds"] >= 0
        db.sync()
        assert watch.tick()["unsynced"] == {"commits": 0, "seconds": 0.0}


def test_another_engine_begins_anew(cli: Run, data: str, tmp_path: Path) -> None:
    with Engine(_made(cli, data, tmp_path)) as engine:
        watch = Watch(engine)
        with memdb.open(tmp_path / data) as db:
            db["k"] = 1
            assert watch.tick()["running"]
        cli("stop", data)
        assert not watch.tick()["running"]
        with memdb.open(tmp_path / data):
            tick = watch.tick()
            assert tick["running"] and tick["rates"]["commits"] is None


def _made(cli: Run, data: str, tmp_path: Path) -> str:
    assert cli("set", data, "k", "0").returncode == errors.OK
    return str(tmp_path / data)


def test_watching_is_not_being_a_client(data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data, linger=0) as db, Engine(str(tmp_path / data)) as engine:
        db["k"] = 1
        watch = Watch(engine)
        assert watch.tick()["clients"] == 1
        db.close()  # returns when the engine has ended, which a client would prevent
        assert not watch.tick()["running"]


def test_once_as_json_and_for_people(cli: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db["k"] = 1
        done = cli("top", data, "--once", "--interval", "0.05", "--json", "--probe")
        (tick,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert tick["rates"]["commits"] == 0 and tick["interval_seconds"] > 0
        assert tick["probe"]["get_seconds"] > 0 and tick["probe"]["commit_seconds"] > 0
        shown = cli("top", data, "--once", "--interval", "0.05").stdout.decode()
        for word in ("commits", "reads go past the engine", "arena", "checkpoint", "writer", "readers"):
            assert word in shown


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_the_screen_ends_at_a_key(data: str, tmp_path: Path, key: str) -> None:
    with memdb.open(tmp_path / data) as db:
        db["k"] = 1
        with Terminal("top", data, "--interval", "0.05", cwd=tmp_path) as terminal:
            terminal.wait_for("commits")
            terminal.wait_for("commits")
            terminal.type(key)
            assert terminal.end() == errors.OK
            assert terminal.is_canonical()
