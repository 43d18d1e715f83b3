"""Clients of a database that a test drives one call at a time: in this process, or in another over a pipe.

Owns: the interface that both share, and the other process's loop. Whoever is driven, a call's answer is a
plain value: iterators and views come back as lists, and an exception is raised here.

Invariants:

* What goes over the pipe is pickled by reference for functions, so they are defined at the top of a module
  that
  both processes import (``tests`` is on the path of both).
* The other process ends when its stdin does.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from pathlib import Path
from typing import Any

import memdb

__all__ = ["Local", "Peer", "main"]


def _plain(answer: Any) -> Any:
    return list(answer) if isinstance(answer, Iterator | KeysView | ValuesView | ItemsView) else answer


class Local:
    """A handle in this process, with the objects (snapshots, transactions) made from it by name."""

    def __init__(self, db: memdb.Database) -> None:
        self.db = db
        self._objects: dict[str, Any] = {}

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """A method of the handle."""
        return _plain(getattr(self.db, method)(*arguments, **options))

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of the handle."""
        return _plain(function(self.db, *arguments))

    def make(self, name: str, method: str, **options: Any) -> None:
        """Enters the block that the method gives, and keeps what it gives by name."""
        self._objects[name] = getattr(self.db, method)(**options).__enter__()

    def on(self, name: str, method: str, *arguments: Any, **options: Any) -> Any:
        """A method, or an attribute (``.name``), of an object that was made."""
        if method.startswith("."):
            return getattr(self._objects[name], method[1:])
        return _plain(getattr(self._objects[name], method)(*arguments, **options))

    def use(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of an object that was made."""
        return _plain(function(self._objects[name], *arguments))

    def leave(self, name: str) -> Any:
        """Ends the block of an object: commits a transaction. Returns its ``commit_lsn``, if it has one."""
        one = self._objects.pop(name)
        one.__exit__(None, None, None)
        return getattr(one, "commit_lsn", None)

    def close(self) -> None:
        """Closes the handle."""
        self.db.close()


class Peer:
    """The same in a process of its own."""

    def __init__(self, path: Path | str, environment: dict[str, str] | None = None, **options: Any) -> None:
        here = str(Path(__file__).resolve().parent)
        package = str(Path(memdb.__file__).resolve().parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "import peer; peer.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**(environment or os.environ), "PYTHONPATH": f"{package}{os.pathsep}{here}"},
        )
        self.begin("open", str(path), options)
        try:
            self.answer()
        except memdb.Error:
            self.close()
            raise

    def begin(self, *request: Any) -> None:
        """Sends a request whose answer is fetched later; several processes work at a time this way."""
        assert self.process.stdin is not None
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The answer of the request that was begun."""
        assert self.process.stdout is not None
        done, result = pickle.load(self.process.stdout)
        if not done:
            raise result
        return result

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        self.begin("call", (method, *arguments), options)
        return self.answer()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.begin("run", (function, *arguments), {})
        return self.answer()

    def make(self, name: str, method: str, **options: Any) -> None:
        self.begin("make", (name, method), options)
        self.answer()

    def on(self, name: str, method: str, *arguments: Any, **options: Any) -> Any:
        self.begin("on", (name, method, *arguments), options)
        return self.answer()

    def use(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self.begin("use", (name, function, *arguments), {})
        return self.answer()

    def leave(self, name: str) -> Any:
        self.begin("leave", (name,), {})
        return self.answer()

    def close(self) -> None:
        """Lets it close its handle and end. Never hangs: what does not end is killed, and told."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def main() -> None:
    """The other process: one request after the other."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _, path, options = pickle.load(requests)
    try:
        opened = memdb.open(path, **options)
    except memdb.Error as error:
        _reply(answers, False, error)
        return
    with opened as db:
        local = Local(db)
        _reply(answers, True, None)
        while True:
            try:
                kind, arguments, options = pickle.load(requests)
            except EOFError:
                return
            try:
                result = getattr(local, kind)(*arguments, **options)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
                _reply(answers, False, error)
            else:
                _reply(answers, True, result)


def _reply(answers: Any, done: bool, result: Any) -> None:
    answers.write(pickle.dumps((done, result)))
    answers.flush()
