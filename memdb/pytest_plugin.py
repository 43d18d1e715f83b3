"""The pytest plugin: databases for tests, each in a place of its own, and nothing left behind.

Owns: the fixtures ``memdb_options``, ``memdb_path``, ``memdb_factory``, ``memdb_db``, ``memdb_shared``, the
marker ``memdb`` and the ini option ``memdb_options``. pytest finds it by the entry point that is installed
with memdb; docs/howto/pytest.md shows it at work.

Invariants:

* It is a face: it uses what ``import memdb`` offers, and the program ``memdb``.
* The engine's code is imported when a fixture is first used: a run without databases doesn't pay for it.
* Every directory is private to one test, or to one worker of pytest-xdist; when its fixture ends, no process
  of its engine runs any more. What had to be ended by force is an error of the test that left it.
"""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

if TYPE_CHECKING:
    import psutil

    from memdb import Database

__all__ = ["MemdbFactory"]

DEFAULTS: Final[Mapping[str, Any]] = {"linger": 0.0, "max_memory": "32MiB"}
"""Options of ``memdb.open`` that suit tests: the last ``close`` waits for the engine's end; a small arena."""

SECONDS_TO_END: Final = 10.0
"""How long an engine may take to end after its last client, or after ``memdb stop``."""

GROUP_MODULE: Final = "memdb.actors.group"
"""In the command line of every process of an engine, beside its directory."""


class MemdbFactory(Protocol):
    """What the fixture ``memdb_factory`` is; for annotations of tests.

    >>> def test_two_databases(memdb_factory: MemdbFactory) -> None:
    ...     source, target = memdb_factory("source"), memdb_factory("target", durability="full")
    """

    def __call__(self, path: str | os.PathLike[str] | None = ..., **options: Any) -> Database:
        """A new handle. *path*: ``memdb_path``, or one beside it if relative; None: in memory only.

        *options* of ``memdb.open`` go before those of ``memdb_options``. Raises as ``memdb.open``.
        """


# ------------------------------------------------------------------------------------------------- for pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the ini option."""
    parser.addini(
        "memdb_options",
        "options of memdb.open for the memdb fixtures, one `name = value` a line",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line(
        "markers",
        "memdb(**options): options of memdb.open for the memdb fixtures of this test, as in "
        'memdb(max_memory="1GiB")',
    )


# ----------------------------------------------------------------------------------------------- the fixtures


@pytest.fixture
def memdb_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The options with which the memdb fixtures of this test open: defaults, ini option, markers from the
    outermost to the innermost. Override it in a module or conftest.py for options of your own.
    """
    return {**_options_of_session(request.config), **_options_of_markers(request.node)}


@pytest.fixture
def memdb_path(tmp_path: Path) -> Iterator[Path]:
    """A private directory for a database, not made yet. After the test the engine in it must have ended."""
    place = tmp_path / "memdb"
    yield place
    _expect_ended(place)


@pytest.fixture
def memdb_factory(memdb_path: Path, memdb_options: dict[str, Any]) -> Iterator[MemdbFactory]:
    """Opens databases, see :class:`MemdbFactory`. All handles are closed, and all engines ended, after the
    test.
    """
    import memdb

    handles: list[Database] = []

    def open_one(path: str | os.PathLike[str] | None = memdb_path, **options: Any) -> Database:
        place = None if path is None else memdb_path.parent / path
        handle = memdb.open(place, **{**memdb_options, **options})
        handles.append(handle)
        return handle

    yield open_one
    places = sorted({handle.path for handle in handles} - {str(memdb_path)})
    for handle in handles:
        handle.close()
    for one in places:
        _expect_ended(Path(one))


@pytest.fixture
def memdb_db(memdb_factory: MemdbFactory) -> Database:
    """An empty database in ``memdb_path`` with an engine of its own."""
    return memdb_factory()


@pytest.fixture(scope="session")
def _memdb_session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """The engine behind ``memdb_shared``: one a session, and one a worker of pytest-xdist."""
    import memdb

    place = tmp_path_factory.mktemp("memdb-shared") / "memdb"
    with memdb.open(place, **_options_of_session(request.config)) as handle:
        yield handle
    _expect_ended(place)


@pytest.fixture
def memdb_shared(_memdb_session: Database, memdb_options: dict[str, Any]) -> Iterator[Database]:
    """A database that is empty when the test begins, on an engine that the session starts once: about a
    millisecond a test instead of the start of an engine.

    Options of the engine can't differ from the session's: a marker that tries is OptionMismatch. LSNs go on
    from test to test.
    """
    import memdb

    _memdb_session.clear()
    with memdb.open(_memdb_session.path, **memdb_options) as handle:
        yield handle


# ------------------------------------------------------------------------------------------------ the options


def _options_of_session(config: pytest.Config) -> dict[str, Any]:
    options = dict(DEFAULTS)
    for line in config.getini("memdb_options"):
        name, equals, text = (part.strip() for part in line.partition("="))
        if not (equals and name.isidentifier() and text):
            raise pytest.UsageError(f"ini option memdb_options: expected `name = value`, not {line!r}")
        options[name] = _literal(text)
    return options


def _literal(text: str) -> Any:
    """A number, True, False, None or a quoted string as Python writes it; any other text is itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _options_of_markers(node: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("memdb"))):
        if marker.args:
            raise pytest.UsageError(
                f"{node.nodeid}: the marker memdb takes options of memdb.open by name, as in "
                f"memdb(max_memory='1GiB'), not {marker.args!r}"
            )
        options.update(marker.kwargs)
    return options


# ---------------------------------------------------------------------------------------------------- the end


def _expect_ended(place: Path) -> None:
    """Returns once no process of the engine of *place* runs; fails, after ending it, if it was still used."""
    if not _engine_of(place):
        return
    gc.collect()  # a handle that the test dropped in a cycle is closed by its finalizer
    left = _wait(place)
    if not left:
        return
    pids = ", ".join(str(process.pid) for process in left)
    clients = _stop(place)
    pytest.fail(
        f"the engine of {place} (pids {pids}) still ran {SECONDS_TO_END:g} s after the test: {clients}. "
        "It was ended. Close every handle that a test opens by itself, end the processes that it starts, and "
        "pass a finite linger",
        pytrace=False,
    )


def _engine_of(place: Path) -> list[psutil.Process]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if GROUP_MODULE in words and str(place) in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def _wait(place: Path) -> list[psutil.Process]:
    import psutil

    left = _engine_of(place)
    psutil.wait_procs(left, timeout=SECONDS_TO_END)
    return _engine_of(place)  # a new engine may have been started meanwhile


def _stop(place: Path) -> str:
    """Ends the engine of *place*; says who its clients are."""
    command = [sys.executable, "-P", "-m", "memdb.cli"]
    package = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": package}
    clients = _clients(place)
    subprocess.run([*command, "stop", str(place)], check=False, capture_output=True, env=environment)
    for process in _wait(place):
        process.kill()
    return clients


def _clients(place: Path) -> str:
    import memdb

    try:
        with memdb.open(place, create=False, open_timeout=SECONDS_TO_END) as handle:
            rows = handle.info().clients
    except memdb.Error as error:
        return f"who uses it could not be asked ({error})"
    others = [f"pid {row['pid']} ({row['command']})" for row in rows if row["pid"] != os.getpid()]
    if others:
        return "it is used by " + ", ".join(others)
    return "no other process uses it: a handle in this one is still open, or its linger is too long"
