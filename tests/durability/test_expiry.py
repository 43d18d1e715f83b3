"""Expiry in the engine: what is due is reaped by the group's own commits; a restart from disk or from the
arena knows what expires, and has what had expired but was not reaped."""

import pytest
from durability.rig import Machine, key

from memdb.shm import _kernel as kernel

HAS_TTL = 1
SECOND = 1_000_000
ABSENT = 1
GROUP = b"G" * 16


def grouped() -> Machine:
    """A machine whose group lease has a name, as a supervisor gives it."""
    machine = Machine()
    kernel.lease_init(machine.segs.group_lease, GROUP)
    return machine.start()


def expiring_set(machine: Machine, name: str, expires_us: int) -> int:
    return machine.commit(
        [{"op": "set", "key": key(name), "value": b"v\0", "flags": HAS_TTL, "expires_us": expires_us}]
    )


def reap(machine: Machine, now_us: int, max_keys: int = 256) -> int:
    payload, count = machine.engine.store.expired(now_us, max_keys)
    if count:
        assert machine.engine.commit.submit_group(machine.segs.group_lease, payload)
        assert not machine.engine.commit.group_done()
        with pytest.raises(ValueError, match="group_done"):
            machine.engine.commit.submit_group(machine.segs.group_lease, payload)
        machine.engine.commit.step()  # not run(), which reaps by itself
        assert machine.engine.commit.group_done()
        state, status, *_ = kernel.lease_result(machine.segs.group_lease, kernel.GROUP_CELL)
        assert (state, status) == (3, 0)
    return count


def plain_count(machine: Machine) -> int:
    return int(machine.engine.store.figures()["counts"][1])


def test_due_keys_are_reaped_by_commits_of_the_group() -> None:
    machine = grouped()
    now = kernel.clock_us()
    assert machine.engine.store.next_expiry is None
    assert machine.engine.commit.group_done()
    for i in range(20):
        expiring_set(machine, f"k{i:02}", now + (i + 1000) * SECOND)
    machine.set("stays", b"1")
    figures = machine.engine.store.figures()
    assert figures["expiring"] == 20 and figures["expiry_bytes"] > 0
    assert machine.engine.store.next_expiry == figures["next_expiry"] == now + 1000 * SECOND
    later = now + 1009 * SECOND
    machine.engine.store.raise_time_floor(later)
    assert len(machine.names()) == 11  # gone at once
    assert plain_count(machine) == 21
    assert [reap(machine, later, 4) for _ in range(4)] == [4, 4, 2, 0]
    assert plain_count(machine) == 11
    assert machine.engine.store.next_expiry == now + 1010 * SECOND
    with pytest.raises(ValueError, match="max_keys"):
        machine.engine.store.expired(later, 0)


def test_every_restart_knows_what_expires() -> None:
    machine = grouped()
    now = kernel.clock_us()
    expiring_set(machine, "in checkpoint", now + 1000 * SECOND)
    expiring_set(machine, "later", now + 9000 * SECOND)
    machine.set("stays", b"1")
    machine.engine.store.raise_time_floor(now + 2000 * SECOND)
    machine.engine.checkpoint()  # with a key that has expired and is not reaped
    expiring_set(machine, "in log", now + 2500 * SECOND)
    machine.set("other", b"1")
    machine.engine.store.raise_time_floor(now + 3000 * SECOND)
    machine.set("other", b"2")  # the time that a restart begins with
    for again in (machine.reboot().start(), machine.successor().start()):
        store = again.engine.store
        assert store.figures()["time_floor"] >= now + 3000 * SECOND
        assert sorted(again.names()) == ["later", "other", "stays"]
        assert plain_count(again) == 5
        assert store.figures()["expiring"] == 3
        assert store.next_expiry == now + 1000 * SECOND
        assert reap(again, now + 3000 * SECOND) == 2
        assert reap(again, now + 3000 * SECOND) == 0
        assert plain_count(again) == 3
        assert store.next_expiry == now + 9000 * SECOND
        assert store.audit() == []


def test_the_groups_commits_of_both_kinds_never_share_a_number() -> None:
    machine = grouped()
    now = kernel.clock_us()
    for turn in range(70):  # all cells and more
        expiring_set(machine, f"k{turn}", now + SECOND * (turn + 10))
        machine.engine.store.raise_time_floor(now + SECOND * (turn + 10))
        machine.engine.forget(b"%016d" % turn)
        assert reap(machine, now + SECOND * (turn + 10)) == 1
    assert machine.engine.commit.figures()["rejected"] == 0
    assert plain_count(machine) == 0
    again = machine.successor().start()  # the next writer goes on with the lease's numbers
    expiring_set(again, "once more", now + 1000 * SECOND)
    again.engine.store.raise_time_floor(now + 1000 * SECOND)
    again.engine.forget(b"%016d" % 0)
    assert reap(again, now + 1000 * SECOND) == 1
    assert plain_count(again) == 0


def test_the_outcomes_of_many_clients_go_at_once() -> None:
    """More than there are result cells: each of the group's commits takes one."""
    machine = grouped()
    clients = [b"%016d" % number for number in range(150)]
    for client in clients:
        lease = kernel.Mapping.anonymous(kernel.lease_bytes())
        kernel.lease_init(lease, client)
        machine.engine.add_lease(lease, client)
        payload = kernel.ops_build([{"op": "set", "key": key("a"), "value": b"v\0"}])
        assert kernel.lease_submit(lease, machine.segs.board, 1, 1, payload)
        machine.engine.run(machine.clock.monotonic())
        machine.engine.remove_lease(client)
    outcomes = {one[2:18] for one in machine.versions() if one[0] == 2}
    assert outcomes >= set(clients)
    machine.engine.forget(*clients)
    machine.engine.run(machine.clock.monotonic())
    outcomes = {one[2:18] for one in machine.versions() if one[0] == 2}
    assert not outcomes & set(clients)


def test_a_batch_is_taken_behind_what_the_group_has_sent_before() -> None:
    machine = grouped()
    now = kernel.clock_us()
    expiring_set(machine, "k", now + SECOND)
    store, commit, lease = machine.engine.store, machine.engine.commit, machine.segs.group_lease
    store.raise_time_floor(now + SECOND)
    machine.engine.forget(b"x" * 16)
    payload, count = store.expired(now + SECOND, 10)
    assert count == 1 and commit.submit_group(lease, payload)
    assert commit.take_group(lease) == kernel.STATUS_OK
    assert commit.take_group(lease) == ABSENT, "both were taken"
    commit.step()
    assert commit.group_done() and plain_count(machine) == 0
