"""The pytest plugin, as its users have it: each test here runs a pytest of its own on a file of tests."""

import ast
import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from program import environment

import memdb

pytest_plugins = "pytester"

PLUGIN = Path(memdb.__file__).parent / "pytest_plugin.py"
ALIVE = """
import psutil

def alive(pid):
    \"\"\"A zombie is not: it is left where nobody collects orphans, as in a container without an init.\"\"\"
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
"""
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory of tests whose pytest finds the package under test."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    pytester.makeini("[pytest]\nfilterwarnings =\n    error\naddopts = --strict-markers\npythonpath = .\n")
    pytester.makepyfile(alive=ALIVE)
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """By module name, whether the package is installed or not: its entry point is blocked by its name."""
    plugin = ("-p", "no:memdb", "-p", "memdb.pytest_plugin")
    return suite.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", *arguments, timeout=100)


def test_every_test_gets_an_empty_database_of_its_own(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from alive import alive

        seen = []

        @pytest.mark.parametrize("turn", [1, 2])
        def test_one(memdb_db, memdb_path, turn):
            assert len(memdb_db) == 0 and memdb_db.path == str(memdb_path)
            memdb_db["turn"] = turn
            engine = memdb_db.info().processes["supervisor"].pid
            assert memdb_db.path not in [path for path, _ in seen]
            seen.append((memdb_db.path, engine))

        def test_they_are_closed_and_their_engines_have_ended():
            for path, engine in seen:
                assert not alive(engine)
        """
    )
    run(suite).assert_outcomes(passed=3)


def test_options_come_from_ini_marker_and_call(suite: pytest.Pytester) -> None:
    suite.makeini(
        """
        [pytest]
        addopts = --strict-markers
        memdb_options =
            max_memory = 16MiB
            durability = memory
            snapshot_max_age = 7.5
            readonly = False
        """
    )
    suite.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.memdb(max_memory="24MiB", keep_segments=1)

        def of(db):
            options = db.info().options
            return options.max_memory // 2**20, options.snapshot_max_age, options.keep_segments

        @pytest.mark.memdb(snapshot_max_age=9.0)
        def test_markers_add_up(memdb_db, memdb_options):
            assert of(memdb_db) == (24, 9.0, 1)
            assert memdb_options["durability"] == "memory"

        def test_a_call_goes_first(memdb_factory):
            assert of(memdb_factory(max_memory="20MiB")) == (20, 7.5, 1)
        """
    )
    run(suite).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("ini", "mark", "text"),
    [
        ("max_memory", "", "*ini option memdb_options: expected `name = value`, not 'max_memory'*"),
        ("", "('16MiB')", "*the marker memdb takes options of memdb.open by name*"),
        ("", "(max_mem='16MiB')", "*TypeError: *max_mem*"),
    ],
)
def test_wrong_options_say_what_is_wrong(suite: pytest.Pytester, ini: str, mark: str, text: str) -> None:
    suite.makeini(f"[pytest]\nmemdb_options =\n    {ini}\n")
    suite.makepyfile(
        f"""
        import pytest

        @pytest.mark.memdb{mark}
        def test_it(memdb_db):
            pass
        """
    )
    result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([text])


def test_the_factory_opens_handles_other_databases_and_memory_only_ones(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pathlib
        from alive import alive

        engines, homes = [], []

        def test_it(memdb_factory, memdb_path, tmp_path):
            one, again = memdb_factory(), memdb_factory(durability="full")
            one["a"] = 1
            assert again["a"] == 1 and one.path == again.path
            other, memory = memdb_factory("other"), memdb_factory(None)
            assert other.path == str(tmp_path / "other") and len(other) == 0
            assert memory.info().memory_only
            engines.extend(db.info().processes["supervisor"].pid for db in (one, other, memory))
            homes.append(memory.path)

        def test_all_have_ended():
            assert not any(map(alive, engines))
            assert not any(pathlib.Path(home).exists() for home in homes)
        """
    )
    run(suite).assert_outcomes(passed=2)


SHARED = """
    import pytest

    engines = set()

    @pytest.mark.parametrize("turn", range(4))
    def test_one(memdb_shared, turn):
        assert len(memdb_shared) == 0
        memdb_shared.set_many({("k", one): turn for one in range(100)})
        engines.add(memdb_shared.info().processes["supervisor"].pid)
        assert len(engines) == 1
        if turn == 2:
            memdb_shared.close()  # the session's engine and the next test don't care
    """


def test_a_shared_engine_is_started_once_and_emptied(suite: pytest.Pytester) -> None:
    suite.makepyfile(SHARED)
    run(suite).assert_outcomes(passed=4)


def test_workers_of_xdist_have_an_engine_each(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    suite.makepyfile(SHARED)
    run(suite, "-p", "xdist", "-n", "2").assert_outcomes(passed=4)


def test_the_shared_engine_outlives_a_test_that_kills_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import os, signal

        def test_kill(memdb_shared):
            memdb_shared["a"] = 1
            for process in memdb_shared.info().processes.values():
                os.kill(process.pid, signal.SIGKILL)

        def test_next(memdb_shared):
            assert len(memdb_shared) == 0
        """
    )
    run(suite).assert_outcomes(passed=2)


def test_the_shared_engine_has_the_options_of_the_session(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import memdb, pytest

        @pytest.mark.memdb(max_memory="48MiB")
        def test_engine_option(memdb_shared):
            pass

        @pytest.mark.memdb(readonly=True)
        def test_handle_option(memdb_shared):
            with pytest.raises(memdb.ReadOnlyError):
                memdb_shared["a"] = 1
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*OptionMismatch: *max_memory*"])


def test_a_handle_that_is_left_open_is_an_error_and_its_engine_is_ended(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import memdb, memdb.pytest_plugin as plugin
        from alive import alive

        kept, engines = [], []
        plugin.SECONDS_TO_END = 1.0

        def test_leaves_one(memdb_path):
            kept.append(memdb.open(memdb_path, max_memory="32MiB"))
            engines.append(kept[0].info().processes["supervisor"].pid)

        def test_it_was_ended():
            assert not alive(engines[0])
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*the engine of */memdb (pids *) still ran 1 s after the test: no other process*"]
    )


def test_a_process_that_is_left_running_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import subprocess, sys
        import memdb.pytest_plugin as plugin

        plugin.SECONDS_TO_END = 1.0
        program = "import memdb, sys; db = memdb.open(sys.argv[1]); print('open', flush=True); input()"
        workers = []

        def test_leaves_one(memdb_db, memdb_path):
            command = [sys.executable, "-c", program, str(memdb_path)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            workers.append(worker)
            assert worker.stdout.readline() == b"open\\n"

        def test_end():
            workers[0].communicate(b"\\n", timeout=30)
            print("WORKER", workers[0].pid)
        """
    )
    result = run(suite, "-rP")
    result.assert_outcomes(passed=2, errors=1)
    pid = next(line.split()[1] for line in result.outlines if line.startswith("WORKER"))
    result.stdout.fnmatch_lines([f"*it is used by pid {pid} (*"])


def test_the_engine_is_not_imported_before_a_fixture_is_used(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_without_a_database(tmp_path):
            assert "memdb.shm._kernel" not in sys.modules and "psutil" not in sys.modules

        def test_with_one(memdb_shared):
            assert "memdb.shm._kernel" in sys.modules
        """
    )
    run(suite).assert_outcomes(passed=2)


def test_fixtures_and_marker_are_listed_with_their_meaning(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_nothing(): pass")
    names = ("memdb_options", "memdb_path", "memdb_factory", "memdb_db", "memdb_shared")
    listed = run(suite, "--fixtures").stdout
    for name in names:
        listed.fnmatch_lines([f"{name}*"])
    listed.no_fnmatch_line("*no docstring available*")
    run(suite, "--markers").stdout.fnmatch_lines(["@pytest.mark.memdb(*options): options of memdb.open*"])


def test_the_entry_point_names_the_plugin() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"memdb": "memdb.pytest_plugin"}
    for entry in importlib.metadata.entry_points(group="pytest11", name="memdb"):  # none in a bare checkout
        assert entry.value == "memdb.pytest_plugin"


def test_it_is_found_by_its_entry_point_where_memdb_is_installed(suite: pytest.Pytester) -> None:
    if not importlib.metadata.entry_points(group="pytest11", name="memdb"):
        pytest.skip("memdb is not installed here, so it has no entry point")
    suite.makepyfile("def test_it(memdb_shared): memdb_shared['a'] = 1")
    suite.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_it_imports_only_what_users_have() -> None:
    tree = ast.parse(PLUGIN.read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.split(".")[0] == "memdb"} == {"memdb"}
