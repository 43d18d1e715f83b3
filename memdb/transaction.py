"""Transactions: optimistic, over one snapshot, with the transaction's own writes on top.

Owns: the public class ``Transaction``, and ``Transacting``: how a database begins, repeats and wraps them.
The reading and writing calls, and the commit, are the kernel's binding's (``txn*.pxi``).

Invariants:

* A transaction holds no lock: it reads its snapshot, keeps its writes to itself, and is judged when it
  commits.
* Only a ConflictError makes ``transact`` run its function again, each time in a new transaction.
"""

import functools
import inspect
import random
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from memdb.documents.door import OfTransaction
from memdb.errors import ConflictError
from memdb.ranges import ITEMS, MISSING, OrderedReads
from memdb.shm import _kernel
from memdb.snapshot import Entry, make_entry

__all__ = ["Transacting", "Transaction"]

Isolation = Literal["serializable", "snapshot"]
Level = Literal["memory", "os", "full"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LONGEST_WAIT = 0.05
_FIRST_WAIT = 0.0002


class Transaction(_kernel.TxnHandle, OfTransaction, OrderedReads, MutableMapping[Any, Any]):  # type: ignore[misc]
    """One transaction, from ``db.transaction()``: a MutableMapping in key order over a snapshot and own
    writes.

    Reads never wait and never fail for a conflict. The end of the ``with`` block commits, an exception in
    it aborts; ``commit()`` and ``abort()`` do so at once, and any use after that is ClosedError. It is for
    one thread at a time, can't be pickled, and is ForkedHandleError in a child process.

    >>> with db.transaction() as tx:
    ...     tx["a"] -= 10
    ...     tx["b"] += 10
    >>> tx.commit_lsn
    18
    """

    __slots__ = ("_path",)

    _path: str
    """Of its database: what a layer compares, where it is given a transaction beside a database."""

    def entry(self, key: Any) -> Entry | None:
        """The key with its value, version and expiry as the transaction sees them; None if it is missing.

        An own write has version 0: it gets its version with the commit. Raises as ``get``. Cost: as ``get``.

        >>> tx.entry("user:1").version
        17
        """
        found = self._entry(key)
        return None if found is None else make_entry(key, found)

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Deletes *key* and returns its value; *default* if it is missing, else KeyError.

        Raises as ``delete``. Cost: as ``delete``.

        >>> tx.pop("user:1", None)
        {'name': 'Alice'}
        """
        found = self._pop(key)
        if found is not None:
            return found[0]
        if default is MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Deletes the last key in key order and returns it with its value; KeyError if there is none.

        Raises as ``delete``. Cost: a descent.

        >>> tx.popitem()
        ('user:9', {'name': 'Ida'})
        """
        for key, value in self._scan(ITEMS, None, None, None, True, 1):
            self._pop(key)
            return key, value
        raise KeyError("popitem(): the transaction sees no key")

    def __ior__(self, other: Any) -> "Transaction":
        self.update(other)
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a transaction belongs to the process that began it and can't be pickled; "
            "pass the database instead"
        )

    def __repr__(self) -> str:
        state = ", ended" if self.closed else ""
        return f"<memdb.Transaction at LSN {self.lsn}, {self.isolation}{state}>"


class Transacting:
    """What a database can do with transactions. The base of ``memdb.Database``."""

    __slots__ = ()

    _path: str

    def transaction(
        self,
        *,
        isolation: Isolation = "serializable",
        durability: Level | None = None,
        timeout: float | None = None,
    ) -> Transaction:
        """Begins a transaction on the database as it is now.

        *isolation*: ``serializable`` (what was read must still hold at the commit: no write skew, no
        phantoms) or ``snapshot`` (only what is written is judged). *durability*: the level of the commit,
        else the handle's. *timeout*: seconds without progress that the commit waits, else the handle's. The
        commit raises ConflictError. Raises ValueError, ClosedError. Cost: about 1 µs; while it is open, the
        versions that its snapshot sees are kept.

        >>> with db.transaction() as tx:
        ...     tx["a"] -= 10
        ...     tx["b"] += 10
        """
        tx = Transaction(self, isolation, durability, timeout)
        tx._path = self._path
        return tx

    def transact(
        self,
        fn: Callable[[Transaction], _T],
        *,
        retries: int = 8,
        isolation: Isolation = "serializable",
        durability: Level | None = None,
        timeout: float | None = None,
    ) -> _T:
        """Calls ``fn(tx)`` in a transaction, commits it and returns what *fn* returned.

        After a ConflictError it runs *fn* again in a new transaction, up to *retries* times, after a random
        wait below 50 ms; so *fn* should change nothing but *tx*. Then, and for any other exception, the
        error goes to the caller. *isolation*, *durability*, *timeout* as in ``transaction``. Raises
        TypeError for a coroutine or generator function. Cost: that of *fn*, and one commit.

        >>> db.transact(lambda tx: tx.increment("visits"))
        43
        """
        _check_function(fn, "transact")
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries={retries!r}: give a whole number of repeats, 0 or more")
        attempt = 0
        while True:
            try:
                with self.transaction(isolation=isolation, durability=durability, timeout=timeout) as tx:
                    result = fn(tx)
                return result
            except ConflictError as error:
                if attempt >= retries:
                    error.add_note(f"transact() has run it {attempt + 1} times, each of which met a conflict")
                    raise
            _wait(attempt)
            attempt += 1

    @overload
    def transactional(self, fn: Callable[Concatenate[Transaction, _P], _T], /) -> Callable[_P, _T]: ...

    @overload
    def transactional(
        self,
        /,
        *,
        retries: int = 8,
        isolation: Isolation = "serializable",
        durability: Level | None = None,
        timeout: float | None = None,
    ) -> Callable[[Callable[Concatenate[Transaction, _P], _T]], Callable[_P, _T]]: ...

    def transactional(self, fn: Callable[..., Any] | None = None, /, **how: Any) -> Callable[..., Any]:
        """A decorator, with or without arguments (those of ``transact``): ``f(tx, a)`` is called as ``f(a)``.

        Each call is one transaction, repeated as by ``transact``. Raises TypeError for a coroutine or
        generator function. Cost: as ``transact``.

        >>> @db.transactional
        ... def move(tx, source, target, amount):
        ...     tx[source] -= amount
        ...     tx[target] += amount
        >>> move("a", "b", 10)
        """
        unknown = set(how) - {"retries", "isolation", "durability", "timeout"}
        if unknown:
            raise TypeError(f"transactional() takes no argument {', '.join(sorted(unknown))}")
        if fn is None:
            return functools.partial(self.transactional, **how)
        _check_function(fn, "transactional")
        body = fn

        @functools.wraps(body)
        def call(*args: Any, **named: Any) -> Any:
            return self.transact(lambda tx: body(tx, *args, **named), **how)

        return call


def _check_function(fn: object, who: str) -> None:
    if not callable(fn):
        raise TypeError(f"{who} needs a function, not {type(fn).__name__}")
    code = getattr(fn, "__func__", fn)
    if (
        inspect.iscoroutinefunction(code)
        or inspect.isasyncgenfunction(code)
        or inspect.isgeneratorfunction(code)
    ):
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{who} calls a plain function, and {name} is a coroutine or generator function: "
            "its body would run after the transaction has ended"
        )


def _wait(attempt: int) -> None:
    """The back-off before another attempt: none, then a random time that may double each time."""
    if attempt > 0:
        time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)))
