"""The life of a group, with real processes: starting, joining, every death, ending."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from actors.group_tools import Opener, processes_of, python, signal_all, wait_until

import memdb
from memdb import errors
from memdb.actors import wire
from memdb.actors.supervisor import POISON_DEATHS
from memdb.attach import Attachment
from memdb.shm import _kernel

ATTACH = """
import os, sys, time
from memdb.attach import attach
from memdb.options import parse
def opened(path, **given):
    handle, explicit = parse(**given)
    return attach(path, handle, explicit, given.get("durability"))
"""


def pids(attachment: Attachment) -> dict[str, int]:
    processes = attachment.control("info")["info"]["processes"]
    return {role: process["pid"] for role, process in processes.items()}


# ------------------------------------------------------------------------------------------ starting, joining


def test_the_first_open_starts_a_group_and_others_join(place: Path, opener: Opener) -> None:
    children = psutil.Process().children()  # multiprocessing may have its tracker here
    attachment = opener()
    assert set(pids(attachment)) == {"supervisor", "writer", "checkpointer", "reaper"}
    assert {process.pid for process in processes_of(place)} == set(pids(attachment).values())
    for process in processes_of(place):
        assert os.getsid(process.pid) != os.getsid(0)
        assert process.cwd() == "/"
    assert psutil.Process().children() == children
    other = python(ATTACH + "print(opened(sys.argv[1]).group_id.hex())", place)
    assert other.communicate()[0].strip() == attachment.group_id.hex()


def test_handles_of_one_process_share_one_attachment(place: Path, opener: Opener, tmp_path: Path) -> None:
    first = opener()
    (tmp_path / "link").symlink_to(place)
    assert opener(tmp_path / "link") is first
    assert first.handles == 2
    first.release()
    assert first.group_alive()


def test_many_openers_at_one_moment_start_one_group(place: Path) -> None:
    code = (
        ATTACH
        + """
gate, told = os.pipe()
children = []
for number in range(50):
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(gate, 1)                      # all begin when the parent closes its end
        a = opened(sys.argv[1], linger=5.0)
        os.write(1, (a.group_id.hex() + chr(10)).encode())
        a.release()
        os._exit(0)
    children.append(child)
os.close(told)
failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
sys.exit(failed)
"""
    )
    crowd = python(code, place)
    output = crowd.communicate(timeout=60)[0].split()
    assert crowd.returncode == 0
    assert len(output) == 50 and len(set(output)) == 1
    assert len(processes_of(place)) == 4


def test_a_path_longer_than_a_socket_address(place: Path, opener: Opener) -> None:
    assert opener(place / ("x" * 200) / ("y" * 200)).group_alive()


def test_a_memdb_folder_of_the_caller_is_not_picked_up(place: Path, tmp_path: Path) -> None:
    (tmp_path / "memdb").mkdir()
    (tmp_path / "memdb" / "__init__.py").write_text("raise SystemExit('the wrong memdb')")
    caller = python(ATTACH + "print(opened(sys.argv[1]).group_alive())", place, cwd=tmp_path)
    assert caller.communicate()[0].strip() == "True"


def test_the_group_takes_nothing_of_its_opener(place: Path) -> None:
    """An opener's pipes end with it, its waitpid(-1) finds no child, and Ctrl-C does not reach the group."""
    code = (
        ATTACH
        + """
a = opened(sys.argv[1], linger=3.0)
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""
    )
    caller = python(code, place, stderr=subprocess.PIPE, start_new_session=True)
    output, noise = caller.communicate(timeout=20)  # would wait for ever if an actor held the pipes
    assert output.strip() == "no child" and noise == ""
    assert len(processes_of(place)) == 4
    for process in processes_of(place):
        process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert len(processes_of(place)) == 4


def test_opening_in_a_thread_and_twice_at_once(place: Path, opener: Opener) -> None:
    found: list[Attachment] = []
    threads = [threading.Thread(target=lambda: found.append(opener())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1


# ------------------------------------------------------------------------------------------------- refusals


def test_other_options_are_named(place: Path, opener: Opener) -> None:
    opener(max_memory="64MiB")
    with pytest.raises(errors.OptionMismatch, match="max_memory") as caught:
        opener(max_memory="128MiB")
    assert caught.value.mismatches == (("max_memory", 128 << 20, 64 << 20),)
    opener(max_memory="64MiB")
    code = (
        ATTACH
        + """
try:
    opened(sys.argv[1], linger=77.0)
except ValueError as error:
    print(error)
"""
    )
    assert "linger" in python(code, place).communicate()[0]


def test_a_level_that_the_group_does_not_have(place: Path, opener: Opener) -> None:
    opener()
    with pytest.raises(errors.OptionMismatch, match="durability"):
        opener(durability="none")


def test_another_version_is_refused_with_both_numbers(place: Path, opener: Opener) -> None:
    opener()
    fd = os.open(place, os.O_RDONLY)
    deadline = time.monotonic() + 5
    with wire.connect(fd, deadline) as sock:
        wire.send(sock, {"op": "hello", "protocol": 99, "layout": 1}, deadline)
        answer = wire.receive(sock, bytearray(), [], deadline)
    os.close(fd)
    assert answer["error"]["error"] == "FormatTooNew" and "99" in answer["error"]["message"]


def test_hostile_bytes_cut_off_only_their_sender(place: Path, opener: Opener) -> None:
    attachment = opener()
    fd = os.open(place, os.O_RDONLY)
    with wire.connect(fd, time.monotonic() + 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(1) == b""
    os.close(fd)
    with pytest.raises(errors.Error, match="no operation"):
        attachment.control("format_disk")
    assert attachment.control("info")["info"]["phase"] == "serving"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"op": []}, "no operation"),
        ({"op": {"a": 1}}, "no operation"),
        ({}, "no operation"),
        ({"explicit": [1]}, "no options"),
        ({"explicit": 1}, "no options"),
        ({"explicit": {"colour": "red"}}, "no options"),
        ({"explicit": {1: 2}}, "no options"),
    ],
)
def test_a_request_of_another_shape_is_answered(
    place: Path, opener: Opener, request_: dict[str, object], why: str
) -> None:
    attachment = opener()
    hello = {"op": "hello", "protocol": wire.PROTOCOL, "layout": _kernel.layout_version()}
    fd, deadline = os.open(place, os.O_RDONLY), time.monotonic() + 5
    with wire.connect(fd, deadline) as sock:
        wire.send(sock, {**(hello if "explicit" in request_ else {}), **request_}, deadline)
        answer = wire.receive(sock, bytearray(), [], deadline)
    os.close(fd)
    assert why in answer["error"]["message"]
    assert attachment.control("info")["info"]["phase"] == "serving"


def test_too_little_shared_memory(place: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    from memdb.actors import segments

    monkeypatch.setattr(segments, "room", lambda: (1 << 20, 64 << 20))
    with pytest.raises(errors.ArenaFullError, match="shm-size") as caught:
        segments.check_room(4 << 20)
    assert caught.value.limit == 64 << 20


# --------------------------------------------------------------------------------------------------- deaths


@pytest.mark.parametrize("role", ["writer", "checkpointer", "reaper"])
def test_a_killed_actor_is_started_again(place: Path, opener: Opener, role: str) -> None:
    attachment = opener()
    before = pids(attachment)
    first = attachment.control("info")["info"]["generation"]
    os.kill(before[role], signal.SIGKILL)
    wait_until(lambda: pids(attachment).get(role, before[role]) != before[role], what=f"a new {role}")
    info = attachment.control("info")["info"]
    assert info["processes"][role]["restarts"] == 1
    assert info["generation"] == (1 if role == "writer" else 0) + first
    attachment.control("checkpoint")
    assert attachment.group_alive()


def test_after_the_supervisor_the_actors_end_and_a_new_group_serves(place: Path, opener: Opener) -> None:
    attachment = opener()
    before = pids(attachment)
    os.kill(before["supervisor"], signal.SIGKILL)
    wait_until(lambda: not processes_of(place), what="the orphans end")
    assert not attachment.group_alive()
    after = pids(attachment)  # attaches anew by itself
    assert attachment.group_alive() and not set(before.values()) & set(after.values())


def test_kill_everything_and_open_again(place: Path, opener: Opener) -> None:
    attachment = opener()
    attachment.control("sync")
    signal_all(processes_of(place), signal.SIGKILL)
    wait_until(lambda: not processes_of(place))
    attachment.reattach(time.monotonic() + 10)
    assert attachment.group_alive()


def test_a_dead_client_is_noticed_by_its_pidfd(place: Path, opener: Opener) -> None:
    attachment = opener()
    other = python(ATTACH + "a = opened(sys.argv[1]); print('in', flush=True); sys.stdin.read()", place)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    assert len(attachment.control("info")["info"]["clients"]) == 2
    other.kill()
    other.communicate()
    wait_until(lambda: len(attachment.control("info")["info"]["clients"]) == 1)


def test_a_closed_socket_is_no_death(place: Path, opener: Opener) -> None:
    """A process that closes all its descriptors, as daemons do, still has its lease."""
    attachment = opener()
    code = (
        ATTACH + "a = opened(sys.argv[1]); os.closerange(3, 100); print('in', flush=True); sys.stdin.read()"
    )
    other = python(code, place)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    attachment.control("sync")
    assert len(attachment.control("info")["info"]["clients"]) == 2
    other.communicate()
    wait_until(lambda: len(attachment.control("info")["info"]["clients"]) == 1)


def test_three_deaths_at_one_lsn_make_the_group_read_only(place: Path, opener: Opener) -> None:
    attachment = opener()
    with memdb.open(place) as db:
        db["key"] = "kept"
    for _ in range(POISON_DEATHS):
        writer = pids(attachment)["writer"]
        os.kill(writer, signal.SIGSEGV)
        wait_until(lambda was=writer: pids(attachment).get("writer") != was)  # type: ignore[misc]
    info = attachment.control("info")["info"]
    assert info["phase"] == "read-only" and "writer" not in info["processes"]
    assert info["poison"]["error"] == "WriterPoisoned"
    with pytest.raises(errors.WriterPoisoned):
        attachment.control("sync")
    code = ATTACH + "a = opened(sys.argv[1]); print(type(a.poison).__name__)"
    assert python(code, place).communicate()[0].strip() == "WriterPoisoned"
    with memdb.open(place) as db:
        assert db["key"] == "kept"
        began = time.monotonic()
        with pytest.raises(errors.WriterPoisoned):
            db["key"] = "changed"
        assert time.monotonic() - began < 5, "told at once, not when the time-out is over"
    assert attachment.stop()


# ----------------------------------------------------------------------------------------------------- fork


def test_a_forked_child_attaches_anew(place: Path, opener: Opener) -> None:
    code = (
        ATTACH
        + """
a = opened(sys.argv[1])
before = a.client.client_id
if os.fork() == 0:
    assert a.stale and not a.group_alive()
    a.reattach(time.monotonic() + 10)
    ok = a.client.client_id != before and len(a.control("info")["info"]["clients"]) == 2
    os._exit(0 if ok else 1)
status = os.wait()[1]
assert a.group_alive() and a.client.client_id == before
a.release()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    )
    parent = python(code, place)
    parent.communicate()
    assert parent.returncode == 0


def test_a_child_that_only_exits_ends_nothing(place: Path, opener: Opener) -> None:
    attachment = opener()
    child = os.fork()
    if child == 0:
        attachment.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert attachment.group_alive()
    assert len(attachment.control("info")["info"]["clients"]) == 1


# ------------------------------------------------------------------------------------------------------ end


def test_it_ends_some_seconds_after_the_last_client(place: Path, opener: Opener) -> None:
    attachment = opener(linger=0.3)
    attachment.release()
    assert len(processes_of(place)) == 4
    again = opener()
    time.sleep(0.5)
    assert again.group_alive()  # who comes in time keeps it up
    again.release()
    wait_until(lambda: not processes_of(place), 5)
    assert not (place / "engine.sock").exists()


def test_with_linger_0_the_last_close_returns_when_it_has_ended(place: Path, opener: Opener) -> None:
    first, second = opener(linger=0), opener()
    first.release()
    assert len(processes_of(place)) == 4
    second.release()
    assert processes_of(place) == []


def test_with_linger_none_it_stays_until_stopped(place: Path, opener: Opener) -> None:
    opener(linger=None).release()
    time.sleep(0.3)
    assert len(processes_of(place)) == 4
    assert opener().stop()
    wait_until(lambda: not processes_of(place), 2)


def test_sigterm_drains(place: Path, opener: Opener) -> None:
    attachment = opener(linger=None)
    os.kill(pids(attachment)["supervisor"], signal.SIGTERM)
    wait_until(lambda: not attachment.group_alive())
    assert "has ended" in (place / "engine.log").read_text()


def test_the_death_of_the_last_client_begins_the_end(place: Path) -> None:
    other = python(
        ATTACH + "a = opened(sys.argv[1], linger=0.1); print('in', flush=True); sys.stdin.read()", place
    )
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    other.kill()
    other.communicate()
    wait_until(lambda: not processes_of(place))


def test_a_removed_directory_ends_the_group(place: Path, opener: Opener) -> None:
    import shutil

    attachment = opener(linger=None)
    shutil.rmtree(place)
    wait_until(lambda: not attachment.group_alive())
    assert not place.exists()
    with pytest.raises(errors.EngineDied, match="removed"):
        attachment.reattach(time.monotonic() + 5)


def test_a_replaced_directory_ends_the_group(place: Path, opener: Opener) -> None:
    attachment = opener(linger=None)
    place.rename(place.with_name("moved"))
    place.mkdir()
    wait_until(lambda: not attachment.group_alive())
    assert os.listdir(place) == []
    with pytest.raises(errors.EngineDied, match="another directory"):
        attachment.reattach(time.monotonic() + 5)


def test_idle_it_uses_no_processor(place: Path, opener: Opener) -> None:
    opener()
    time.sleep(0.3)
    group = processes_of(place)

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in group)

    def switches() -> int:
        return sum(process.num_ctx_switches().voluntary for process in group)

    cpu, woken = used(), switches()
    time.sleep(1.5)
    assert used() - cpu <= 0.01
    assert switches() - woken <= 4


# ------------------------------------------------------------------------------------------------ in memory


def test_a_memory_only_database_leaves_nothing(opener: Opener, place: Path) -> None:
    attachment = opener(None, linger=0)
    home = Path(attachment.path)
    assert home.stat().st_mode & 0o777 == 0o700
    other = python(ATTACH + "print(opened(sys.argv[1]).group_id.hex())", home)
    assert other.communicate()[0].strip() == attachment.group_id.hex()
    attachment.release()
    assert not home.exists() and processes_of(home) == []


def test_a_memory_only_database_can_not_come_back(opener: Opener, place: Path) -> None:
    attachment = opener(None, linger=0)
    home = attachment.path
    signal_all(processes_of(home), signal.SIGKILL)
    wait_until(lambda: not attachment.group_alive())
    with pytest.raises(errors.EngineDied, match="memory-only"):
        attachment.reattach(time.monotonic() + 5)
    code = (
        ATTACH
        + """
try:
    opened(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""
    )
    assert python(code, home).communicate()[0].strip() == "EngineDied"
    attachment.release()
    subprocess.run(["rm", "-r", home], check=True)


# ------------------------------------------------------------------------------------------------- questions


def test_a_question_that_ends_each_group_has_an_end(
    place: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    attachment, asked = opener(), list[bytes]()
    monkeypatch.setattr("memdb.attach._ASKED_MOST", 2)

    def deadly(*_: object) -> dict[str, object]:
        assert len(asked) < 5, "asked for ever"
        asked.append(attachment.group_id)
        signal_all(processes_of(place), signal.SIGKILL)
        raise wire.Disconnected("the other side closed the connection")

    monkeypatch.setattr(attachment, "_ask", deadly)
    with pytest.raises(errors.EngineDied, match="2 times while it was asked 'info'") as caught:
        attachment.control("info")
    assert len(set(asked)) == len(asked) == 2 and caught.value.log_file == str(place / "engine.log")
    with pytest.raises(errors.Timeout, match="not answered 'info'"):
        attachment.control("info", timeout=0.0)


# ------------------------------------------------------------------------------------------------- interrupts


def test_ctrl_c_interrupts_the_wait_for_a_group_that_does_not_answer(place: Path) -> None:
    """GROUP is held, but nobody listens: the opener waits, or gives up and says who holds it."""
    code = (
        ATTACH
        + """
from memdb.actors.locks import FileLock
os.mkdir(sys.argv[1])
fd = os.open(sys.argv[1], os.O_RDONLY)
lock = FileLock(fd, "GROUP"); lock.acquire(wait=False); lock.write_note("a strange engine")
try:
    opened(sys.argv[1], open_timeout=0.2)
except TimeoutError as error:
    print(type(error).__name__, "a strange engine" in str(error), flush=True)
print("waiting", flush=True)
try:
    opened(sys.argv[1], open_timeout=60.0)
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    waiting = python(code, place, stderr=sys.stderr)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "OpenTimeout True\n"
    assert waiting.stdout.readline() == "waiting\n"
    select.select([], [], [], 0.2)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30)[0] == "interrupted\n"


# --------------------------------------------------------------------------------- commits, checks, outcomes


def test_acknowledged_commits_survive_every_death(place: Path) -> None:
    with memdb.open(place, linger=0) as db:
        for number, role in enumerate(["writer", "checkpointer", "reaper", "supervisor", "all"]):
            db[f"before {role}"] = number
            processes = db.info().processes
            victims = processes.values() if role == "all" else [processes[role]]
            for victim in victims:
                os.kill(victim.pid, signal.SIGKILL)
            db[f"after {role}"] = number  # a delay, no error
        assert len(db) == 10
        db.checkpoint()
        db.rotate_wal()
        report = db.check()
        assert report.ok, str(report)
    with memdb.open(place, linger=0) as db:
        assert len(db) == 10


def test_damage_of_a_checkpoint_is_found_and_named(place: Path) -> None:
    with memdb.open(place, linger=0) as db:
        db["key"] = b"x" * 1000
        db.checkpoint()
        (checkpoint,) = (place / "checkpoints").glob("*.ckpt")
        data = bytearray(checkpoint.read_bytes())
        data[4096 + 200] ^= 1
        checkpoint.write_bytes(data)
        report = db.check()
        assert not report.ok and checkpoint.name in str(report)


def test_damage_of_the_manifest_is_found_and_named(place: Path) -> None:
    with memdb.open(place, linger=0) as db:
        manifest = place / "MANIFEST"
        data = manifest.read_bytes()
        for damaged in (data[:-1] + bytes([data[-1] ^ 1]), None):
            if damaged is None:
                manifest.unlink()
            else:
                manifest.write_bytes(damaged)
            report = db.check()
            assert not report.ok and "MANIFEST" in str(report)
            manifest.write_bytes(data)
        assert db.check().ok


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("at", [8, 4096 + 200])
def test_damage_of_a_segment_is_found_and_named(place: Path, rotated: bool, at: int) -> None:
    """Also of the one that is written to, as far as it is durable."""
    with memdb.open(place, linger=0) as db:
        db["key"] = b"x" * 1000
        db["other"] = 1
        (segment,) = db.info().wal.segments
        db.rotate_wal() if rotated else db.sync()
        report = db.check()
        assert report.ok and report.figures.segments == 1 + rotated, str(report)
        path = place / "wal" / f"{segment:016d}.log"
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
        report = db.check()
        assert not report.ok and path.name in str(report)
        assert db["key"] == b"x" * 1000
        with path.open("r+b") as file:  # so that the last checkpoint meets what it wrote
            file.seek(at)
            file.write(bytes([byte]))
        assert db.check().ok


def test_a_check_beside_writes_finds_nothing(place: Path) -> None:
    with memdb.open(
        place, linger=0, sync_interval=0.001, max_transaction_bytes="32KiB", segment_bytes="64KiB"
    ) as db:
        ended = threading.Event()

        def write() -> None:
            while not ended.is_set():
                db.set_many((n, os.urandom(100)) for n in range(50))

        writers = [threading.Thread(target=write) for _ in range(2)]
        for one in writers:
            one.start()
        try:
            for _ in range(30):
                report = db.check()
                assert report.ok, str(report)
        finally:
            ended.set()
            for one in writers:
                one.join()


def test_the_last_checkpoint_makes_the_next_start_clean(place: Path, opener: Opener) -> None:
    with memdb.open(place, linger=0) as db:
        db["key"] = "value"
    assert len(list((place / "checkpoints").glob("*.ckpt"))) == 1
    recovery = opener(linger=0).control("info")["info"]["recovery"]
    assert recovery["clean"] and recovery["records"] == 0 and recovery["checkpoint_lsn"] > 0


def test_an_error_of_recovery_reaches_every_opener(place: Path) -> None:
    with memdb.open(place, linger=0) as db:
        db["key"] = "value"
    manifest = place / "MANIFEST"
    data = bytearray(manifest.read_bytes())
    data[-1] ^= 1
    manifest.write_bytes(data)
    for _ in range(2):
        with pytest.raises(errors.CorruptionError, match="MANIFEST"):
            memdb.open(place)
    wait_until(lambda: not processes_of(place))
