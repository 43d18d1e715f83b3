"""Pipelines: writes that go out at once, each settled exactly once, with one result a call."""

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import memdb

Opener = Callable[..., memdb.Database]


def writer_of(db: memdb.Database) -> int:
    return db.info().processes["writer"].pid


def test_every_call_has_its_result(db: memdb.Database) -> None:
    db.update(old=1, there=2, more=3)
    entry = db.entry("there")
    assert entry is not None
    with db.pipeline() as p:
        calls = [
            p.set("a", 1),
            p.set("a", 2, if_absent=True),
            p.set("there", 5, if_version=entry.version, ttl=100),
            p.set("there", 6, if_version=entry.version),
            p.delete("old"),
            p.delete("old"),
            p.delete("x" * 100_000),
            p.set_many({"b": 1, "c": 2}, ttl=50),
            p.set_many([]),
            p.delete_many(["b", "b", "missing"]),
            p.delete_many([]),
            p.delete_range("x", "a"),
            p.delete_range(prefix="mo"),
            p.set("more", 4),
            p.delete("there", if_version=entry.version),
        ]
        assert len(p) == 15
    assert calls == [None] * 15
    expected = [True, False, True, False, True, False, False, None, None, 1, 0, 0, 1, True, False]
    assert p.results == expected and len(p) == 15
    assert dict(db) == {"a": 1, "there": 5, "c": 2, "more": 4}
    assert db.ttl("there") is not None and db.ttl("c") is not None


@pytest.mark.parametrize("level", ["memory", "os", "full"])
def test_many_writes_in_order(db: memdb.Database, level: str) -> None:
    with db.pipeline(durability=level) as p:
        for n in range(1000):
            p.set(n % 7, n)
            p.set(("n", n), n)
    assert p.results == [True] * 2000
    assert [db[n] for n in range(7)] == [max(m for m in range(1000) if m % 7 == n) for n in range(7)]
    assert list(db.values(prefix=("n",))) == list(range(1000))
    if level == "full":
        assert db.durable_lsn >= db.lsn


def test_writes_of_one_key_keep_their_order_also_among_many(db: memdb.Database) -> None:
    with db.pipeline() as p:
        for n in range(200):
            p.set("k", n)
            p.set_many({"k": -n, ("m", n): n})
            p.delete("k")
            p.set_many({"k": n, "j": n})
            p.delete_many(["j"])
        p.delete_range(prefix=("m",))
        p.set(("m", 0), "after")
    assert dict(db) == {"k": 199, ("m", 0): "after"} and p.results[-2:] == [200, True]


def test_it_goes_out_before_the_block_ends(db: memdb.Database) -> None:
    with db.pipeline() as p:
        p.set("a", 1)
        deadline = time.monotonic() + 10
        while "a" not in db and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        assert db["a"] == 1


def test_bad_arguments_are_told_at_once_and_send_nothing(db: memdb.Database) -> None:
    def pairs() -> Iterator[tuple[str, int]]:
        yield "x", 1
        raise ZeroDivisionError

    with db.pipeline() as p:
        bad: list[tuple[Callable[[], object], type[Exception]]] = [
            (lambda: p.set(object(), 1), memdb.UnsupportedType),
            (lambda: p.set("x", object()), memdb.UnsupportedType),
            (lambda: p.set("x", 1, ttl=0), ValueError),
            (lambda: p.set("x", 1, if_absent=True, if_version=1), ValueError),
            (lambda: p.set("x", 1, durability="none"), ValueError),
            (lambda: p.set("x" * 100_000, 1), memdb.KeyTooLarge),
            (lambda: p.set("x", b"v" * (1 << 20) + b"v"), memdb.ValueTooLarge),
            (lambda: p.delete(object()), memdb.UnsupportedType),
            (lambda: p.delete("x", if_version="1"), TypeError),  # type: ignore[arg-type]
            (lambda: p.set_many(pairs()), ZeroDivisionError),
            (lambda: p.delete_many("abc"), TypeError),
            (lambda: p.delete_range(prefix=5), TypeError),
        ]
        for call, error in bad:
            with pytest.raises(error):
                call()
        p.set("a", 1)
    assert p.results == [True] and dict(db) == {"a": 1}


def test_an_exception_in_the_block_propagates_and_what_was_sent_is_done(db: memdb.Database) -> None:
    pipeline = db.pipeline()
    with pytest.raises(ZeroDivisionError), pipeline as p:
        for n in range(100):
            p.set(n, n)
        raise ZeroDivisionError
    assert pipeline.results == [True] * 100 and len(db) == 100


def test_errors_are_told_at_the_end(opened: Opener) -> None:
    db = opened(max_memory="16MiB")
    value = b"v" * 200_000
    told = r"\d+ of 202 writes .* ArenaFullError: "
    with pytest.raises(memdb.PipelineError, match=told) as caught, db.pipeline() as p:
        p.set("first", 1)
        for n in range(200):
            p.set(n, value)
        p.delete("first")
    error = caught.value
    assert error.results == p.results and len(error.results) == 202
    assert error.results[0] is True and error.results[-1] is True
    full = [one for one in error.results if isinstance(one, memdb.ArenaFullError)]
    assert full and error.__cause__ is full[0] and f"{len(full)} of 202" in str(error)
    done = [n for n in range(200) if error.results[n + 1] is True]
    assert set(db) == set(done)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and len(again.results) == 202


def test_use_outside_its_block(db: memdb.Database) -> None:
    p = db.pipeline()
    with pytest.raises(memdb.ClosedError, match="outside"):
        p.set("a", 1)
    with p:
        p.set("a", 1)
    for call in (lambda: p.set("b", 1), lambda: p.delete("a"), p.__enter__):
        with pytest.raises(memdb.ClosedError):
            call()
    assert dict(db) == {"a": 1}
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(p)


def test_closed_and_read_only_handles(opened: Opener) -> None:
    db, reader = opened(), opened(readonly=True)
    with pytest.raises(memdb.ReadOnlyError):
        reader.pipeline()
    with pytest.raises(ValueError, match="durability"):
        db.pipeline(durability="none")
    with pytest.raises(memdb.ClosedError), db.pipeline() as p:
        p.set("a", 1)
        db.close()
        p.set("b", 1)
    with pytest.raises(memdb.ClosedError):
        db.pipeline()
    assert "b" not in reader


def test_a_child_leaves_the_parents_pipeline_alone(db: memdb.Database) -> None:
    with db.pipeline() as p:
        p.set("a", 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                p.set("b", 1)
            except memdb.ForkedHandleError:
                try:
                    p.__exit__(None, None, None)
                except memdb.ForkedHandleError:
                    db["child"] = 1
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        p.set("c", 1)
    assert p.results == [True, True] and set(db) == {"a", "c", "child"}


def test_other_threads_write_meanwhile_and_pipelines_share_the_cells(db: memdb.Database) -> None:
    """Three open pipelines hold more requests than the lease has cells, and nobody waits for them."""
    pipelines = [db.pipeline() for _ in range(3)]
    for p in pipelines:
        p.__enter__()
    for n in range(48):
        for name, p in enumerate(pipelines):
            p.set((name, n), n)
    thread = threading.Thread(target=lambda: [db.set(("t", n), n) for n in range(200)])
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    for p in pipelines:
        p.__exit__(None, None, None)
        assert p.results == [True] * 48
    assert len(db) == 3 * 48 + 200


def test_a_dropped_pipeline_gives_its_cells_back(db: memdb.Database) -> None:
    for round_ in range(5):
        p = db.pipeline()
        p.__enter__()
        for n in range(48):
            p.set((round_, n), n)
        del p
    db["after"] = 1
    assert db["after"] == 1


@pytest.mark.parametrize("level", ["memory", "os", "full"])
def test_the_writer_dies_in_the_middle(db: memdb.Database, level: str) -> None:
    """Conditions would fail where a write was done twice, results where one was lost."""
    value = b"v" * 500
    with db.pipeline(durability=level) as p:
        for n in range(3000):
            p.set(n, value, if_absent=True)
            p.set("last", n)
            if n in (500, 1500, 2500):
                os.kill(writer_of(db), signal.SIGKILL)
    assert p.results == [True] * 6000
    assert db["last"] == 2999 and len(db) == 3001


def test_the_group_dies_in_the_middle(db: memdb.Database) -> None:
    with db.pipeline() as p:
        for n in range(1000):
            p.set(n, n, if_absent=True)
            if n == 500:
                for process in db.info().processes.values():
                    os.kill(process.pid, signal.SIGKILL)
    assert p.results == [True] * 1000 and len(db) == 1000


def test_a_stopped_writer_ends_the_pipeline_soon(opened: Opener) -> None:
    db = opened(timeout=0.5)
    db["a"] = 1
    pid = writer_of(db)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with (
            pytest.raises(
                memdb.PipelineError, match=r"failed, the first with (Timeout|OutcomeUnknown)"
            ) as caught,
            db.pipeline() as p,
        ):
            for n in range(10_000):
                p.set(n, n)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - began < 20
    assert 0 < len(p.results) <= 49
    assert all(isinstance(one, memdb.Timeout | memdb.OutcomeUnknown) for one in p.results)
    certain = [n for n, one in enumerate(p.results) if isinstance(one, memdb.Timeout)]
    db["b"] = 1
    assert not any(n in db for n in certain) and caught.value.results == p.results


def test_ctrl_c_interrupts_the_wait(opened: Opener) -> None:
    db = opened()
    db["a"] = 1
    pid = writer_of(db)
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt), db.pipeline() as p:
            for n in range(10):
                p.set(n, n)
            timer.start()
    finally:
        timer.join()
        os.kill(pid, signal.SIGCONT)
    assert len(p.results) == 10 and all(isinstance(one, KeyboardInterrupt) for one in p.results)
    db["b"] = 1
    assert db["b"] == 1


def test_one_thread_at_a_time(db: memdb.Database) -> None:
    pid = writer_of(db)
    os.kill(pid, signal.SIGSTOP)
    with db.pipeline() as p:
        try:
            thread = threading.Thread(target=lambda: [p.set(n, n) for n in range(60)])
            thread.start()
            deadline = time.monotonic() + 20
            while len(p) < 48 and time.monotonic() < deadline:  # then it waits, inside
                threading.Event().wait(0.01)
            threading.Event().wait(0.05)
            with pytest.raises(memdb.Error, match="another thread"):
                p.set("other", 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        thread.join()
    assert p.results == [True] * 60 and len(db) == 60
