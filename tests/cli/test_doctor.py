"""`memdb doctor`: its facts from made-up machines, its judgements, and that it changes nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import memdb
from memdb.cli import checks, doctor, errors, machine

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
MIB = 1 << 20
GIB = 1 << 30
_SUBJECT = checks.Subject(None, 64 * MIB)


def _machine(root: Path, cgroup: str, files: dict[str, str]) -> machine.MemoryGroup | None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return machine.memory_group(root / "proc", root / "cgroup")


def test_version_2_takes_the_tightest_limit_above(tmp_path: Path) -> None:
    group = _machine(
        tmp_path,
        "0::/pod/box\n",
        {
            "pod/memory.max": f"{GIB}\n", "pod/memory.current": "77\n",
            "pod/memory.stat": "anon 5\nshmem 12\n",
            "pod/box/memory.max": "max\n", "pod/box/memory.current": "50\n",
        },
    )  # fmt: skip
    assert group == machine.MemoryGroup(2, str(tmp_path / "cgroup/pod"), GIB, 77, 12)


def test_version_1_and_its_way_to_say_unlimited(tmp_path: Path) -> None:
    group = _machine(
        tmp_path,
        "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n",
        {
            "memory/job/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/job/memory.usage_in_bytes": "4096\n",
            "memory/job/memory.stat": "shmem 1\ntotal_shmem 2\n",
        },
    )
    assert group == machine.MemoryGroup(1, str(tmp_path / "cgroup/memory/job"), None, 4096, 2)


def test_a_container_that_sees_only_its_own_subtree(tmp_path: Path) -> None:
    group = _machine(tmp_path, "0::/../../kubepods/x\n", {"memory.max": "123\n", "memory.current": "7\n"})
    assert group is not None and (group.limit, group.used, group.shared) == (123, 7, None)


def test_no_control_groups(tmp_path: Path) -> None:
    assert machine.memory_group(tmp_path, tmp_path) is None
    assert _machine(tmp_path, "0::/\n", {}) is None


@pytest.mark.parametrize(
    ("limit", "verdict"), [(None, "ok"), (100 * MIB, "problem"), (200 * MIB, "warning"), (GIB, "ok")]
)
def test_the_control_group_is_judged_by_arenas(limit: int | None, verdict: str) -> None:
    found = checks._control_group(_SUBJECT, machine.MemoryGroup(2, "/x", limit, 10 * MIB, MIB))
    assert found.verdict == verdict and "touched" in found.text
    assert (found.advice is None) == (verdict == "ok")


def test_shared_memory_is_judged_by_arenas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(free: int, total: int) -> checks.Finding:
        figures = os.statvfs("/dev/shm")
        fields = list(figures)
        fields[0] = fields[1] = 4096
        fields[2], fields[3], fields[4] = total // 4096, free // 4096, free // 4096
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
        return checks._shared_memory(_SUBJECT)

    assert judged(GIB, GIB).verdict == "ok"
    found = judged(100 * MIB, 100 * MIB)
    assert found.verdict == "warning" and "not for two" in found.text and "remount" in str(found.advice)
    found = judged(32 * MIB, 32 * MIB)
    assert found.verdict == "warning" and "less than one arena" in found.text
    found = judged(2 * MIB, 100 * MIB)
    assert found.verdict == "problem" and "no engine can start" in found.text
    monkeypatch.undo()
    assert checks._shared_memory(checks.Subject(None, MIB, shm=str(tmp_path / "none"))).verdict == "problem"


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (50, 50), resource.RLIMIT_AS: (100 * MIB, 100 * MIB)}
    limits[resource.RLIMIT_FSIZE] = (MIB, MIB)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits.get(which, (-1, -1)))
    found = {one.check: one for one in checks._limits(_SUBJECT)}
    assert {name: one.verdict for name, one in found.items()} == {
        "open files": "problem", "locked memory": "ok", "address space": "problem", "file size": "problem",
    }  # fmt: skip
    limits[resource.RLIMIT_NOFILE] = (256, 512)
    assert {one.check: one.verdict for one in checks._limits(_SUBJECT)}["open files"] == "warning"


def test_a_kernel_that_lacks_something(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = [machine.Feature("pidfd_open", True, "not permitted", "death")]
    lacking += [machine.Feature("SO_PEERPIDFD", False, "no such option", "else by pid")]
    monkeypatch.setattr(machine, "features", lambda: lacking)
    found = list(checks._kernel())
    assert [one.verdict for one in found] == ["problem", "ok"]
    assert "pidfd_open" in found[0].text and "seccomp" in str(found[0].advice)


def test_this_kernel_has_what_is_needed() -> None:
    assert not [one for one in machine.features() if one.needed and one.error is not None]


def test_clock(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with memdb.open(tmp_path / data, linger=0) as db:
        db["k"] = 1
        db.checkpoint()
    subject = checks.Subject(str(tmp_path / data), MIB)
    monkeypatch.setattr(machine, "clock_source", lambda: "tsc")
    assert checks._clock(subject).verdict == "ok"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    found = checks._clock(subject)
    assert found.verdict == "warning" and "behind the newest checkpoint" in found.text
    monkeypatch.setattr(time, "time", lambda: 5.0)
    assert checks._clock(subject).verdict == "problem"
    monkeypatch.undo()
    monkeypatch.setattr(machine, "clock_source", lambda: "acpi_pm")
    assert checks._clock(subject).verdict == "warning"


def test_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = {}
    for kind in ("ext4", "tmpfs", "nfs4", "fuse.sshfs"):
        monkeypatch.setattr(checks.filesystems, "kind_of", lambda place, mounts=None, kind=kind: kind)
        judged[kind] = checks._file_system(str(tmp_path / "not" / "yet")).verdict
    assert judged == {"ext4": "ok", "tmpfs": "warning", "nfs4": "problem", "fuse.sshfs": "problem"}


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(free: int) -> str:
        fields = list(os.statvfs(tmp_path))
        fields[0] = fields[1] = 4096
        fields[4] = free // 4096
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
            return checks._disk(_SUBJECT, str(tmp_path)).verdict

    assert [judged(free) for free in (GIB, 100 * MIB, MIB)] == ["ok", "warning", "problem"]


def test_others_may_not_write_into_the_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert checks._access(str(tmp_path)).verdict == "ok"
    tmp_path.chmod(0o777)
    found = checks._access(str(tmp_path))
    assert found.verdict == "warning" and "chmod" in str(found.advice)


def test_the_engine(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / data
    place.mkdir(mode=0o700)
    assert "no database there yet" in checks._engine(str(place)).text
    assert os.listdir(place) == []
    with memdb.open(place, linger=0) as db:
        found = checks._engine(str(place))
        supervisor = db.info().processes["supervisor"].pid
        assert found.verdict == "ok" and found.facts["pid"] == supervisor
        monkeypatch.setattr(checks, "_ANSWER_SECONDS", 0.2)
        os.kill(supervisor, signal.SIGSTOP)
        try:
            found = checks._engine(str(place))
        finally:
            os.kill(supervisor, signal.SIGCONT)
        assert found.verdict == "problem" and "does not answer" in found.text
        assert str(supervisor) in str(found.advice)
    found = checks._engine(str(place))
    assert found.verdict == "ok" and "none runs" in found.text and found.facts["running"] is False


def test_the_program(cli: Run, data: str, tmp_path: Path) -> None:
    done = cli("doctor", "--json")
    facts = json.loads(done.stdout)
    assert facts["directory"] is None
    assert done.returncode == (errors.OK if facts["ok"] else errors.NO)
    names = [one["check"] for one in facts["checks"]]
    assert {"shared memory", "memory control group", "open files", "clock", "leftovers"} <= set(names)
    assert "file system" not in names
    facts = json.loads(cli("doctor", "not/yet", "--json").stdout)
    texts = {one["check"]: one["text"] for one in facts["checks"]}
    assert {"file system", "disk"} <= texts.keys() and "no such directory" in texts["engine"]
    assert not (tmp_path / "not").exists()
    with memdb.open(tmp_path / data, max_memory="32MiB", linger=60.0):
        shown = cli("doctor", data).stdout.decode()
        assert "serving" in shown and "0 problems" in shown
        facts = json.loads(cli("doctor", data, "--json").stdout)
        shm = next(one for one in facts["checks"] if one["check"] == "shared memory")
        assert shm["facts"]["max_memory"] == 32 * MIB
    assert cli("doctor", "--max-memory", "lots").returncode == errors.USAGE


def test_a_problem_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    small = machine.MemoryGroup(2, "/x", 10 * MIB, MIB, None)
    monkeypatch.setattr(machine, "memory_group", lambda: small)
    done = CliRunner().invoke(doctor.doctor, ["--json"])
    assert done.exit_code == errors.NO
    assert json.loads(done.stdout)["ok"] is False
