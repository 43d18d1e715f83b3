"""Building an index while its collection is in use, and checking that indexes equal their collections.

Owns: the steps of a build, what is kept of it between them, the check.

A build is: define the index as ``building``; go over the documents in transactions of their own, each of
which also keeps how far it came; define it as ``ready``. From the first step on every writer keeps its
entries (the commit of one who did not know the index fails, since it has read the older definition). So a
document that is written meanwhile has right entries whether the build has passed it or not, and those that
come behind the last one of the beginning need no build at all.

Invariants:

* An index that is not ready is kept by writers and never read by queries.
* A build that was cut off goes on where it was when the same index is asked for again, in any process; two
  processes that build one index share the work.
* What the index can't hold ends the build, and with it the index: its definition and its entries are gone.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from memdb import layering, values
from memdb.documents import catalogue, keyspace
from memdb.documents.catalogue import Definition, Source
from memdb.documents.indexes import READY, Index, IndexDefinition
from memdb.documents.writing import Batch
from memdb.errors import (
    ConflictError,
    DuplicateKeyError,
    Error,
    IndexMismatch,
    KeyTooLarge,
    TransactionTooLarge,
    UnsupportedType,
)
from memdb.info import Figures, Problem, Report
from memdb.layering import SpaceKey
from memdb.transaction import Transaction

if TYPE_CHECKING:
    from memdb.transaction import Level

__all__ = ["RETRIES", "Progress", "build", "check", "define", "drop_index", "make_within"]

Progress = Callable[[int, int], object]

RETRIES: Final = 64
"""How often a transaction of a collection's own is repeated: it stands for one call of the user."""

_BATCH: Final = 1000  # documents
_BATCH_BYTES: Final = 1 << 20
_SHOWN: Final = 20  # problems of an index that a report names
_REFUSED: Final = (DuplicateKeyError, UnsupportedType, KeyTooLarge, IndexMismatch)


class _Database(Protocol):
    """What a build needs of a Database."""

    def transact(self, fn: Callable[[Transaction], Any], *, retries: int = 8) -> Any: ...


def define(
    tx: Transaction, name: str, wanted: IndexDefinition, given: Callable[[Index], None]
) -> tuple[Definition, Index]:
    """The index of that definition, added as it is asked for if it is not there. *given* gets the index
    before any entry is made. Raises IndexMismatch if there is another of its name."""
    definition = catalogue.hold(tx, name) or catalogue.create(tx, name)
    there = definition.index(wanted.name)
    if there is None:
        definition = catalogue.with_index(definition, wanted)
        there = definition.indexes[-1]
        catalogue.save(tx, name, definition)
    elif not there.definition.same_as(wanted):
        raise IndexMismatch(
            f"collection {name!r}: index {wanted.name!r} exists as ({there.definition}), and ({wanted}) is "
            "asked for: drop_index() it first, or give the new one another name=",
            collection=name,
            index=wanted.name,
        )
    given(there)
    return definition, there


def build(
    db: Any,
    name: str,
    definition: Definition,
    index: Index,
    progress: Progress | None,
    durability: "Level | None" = None,
) -> None:
    """Takes an index that is ``building`` to its end.

    Raises what the index can't hold: DuplicateKeyError, UnsupportedType, KeyTooLarge, and whatever a key
    function raises; there is no such index then.
    """
    # Who writes behind this document, writes its entries as well: the index is defined already.
    last = _last_document(db, definition)
    start, stop = keyspace.document_range(definition.id)
    total = 0 if progress is None else len(db.keys(start=start, stop=stop))
    size = _BATCH
    while True:
        try:
            done = db.transact(
                lambda tx, size=size: _step(tx, name, index, size, last), retries=0, durability=durability
            )
        except (ConflictError, TransactionTooLarge) as error:
            if size == 1 and isinstance(error, TransactionTooLarge):
                _give_up(db, name, index)
                raise
            size = max(size // 2, 1)  # somebody writes here: a smaller part is sooner done
            continue
        except _REFUSED:
            _give_up(db, name, index)
            raise
        except Error:
            raise  # nothing is wrong with the index: the same call goes on with it
        except Exception:  # whatever a key function of the user raises: it is passed on
            _give_up(db, name, index)
            raise
        if done is None:
            return
        size = min(size * 2, _BATCH)
        if progress is not None:
            progress(min(done, total), total)


def _last_document(source: Source, definition: Definition) -> bytes:
    """The id of the last document; b"" if there is none."""
    first, stop = keyspace.document_range(definition.id)
    for key, _ in layering.scan_payloads(source, first, stop, reverse=True, limit=1):
        last: bytes = key[len(first.stored) :]
        return last
    return b""


def _step(tx: Transaction, name: str, index: Index, size: int, last: bytes) -> int | None:
    """One part of a build: how many documents it has passed; None when the index is ready."""
    definition = catalogue.hold(tx, name)
    there = None if definition is None else definition.index(index.name)
    if definition is None or there is None or there.identity != index.identity:
        raise IndexMismatch(
            f"collection {name!r}: index {index.name!r} was dropped while it was being built (or its "
            "collection was, or another process that built it as well met what it can't hold); create it "
            "again",
            collection=name,
            index=index.name,
        )
    if there.ready:
        return None
    kept_at = keyspace.build_key(definition.id, index.n)
    last, upto, done = tx.get(kept_at) or (last, b"", 0)
    batch = Batch(tx, name, definition)
    passed = done
    for id, document, expires_us in _part(tx, definition, last, upto, size):
        batch.index(there, document, id, expires_us)
        upto = id
        passed += 1
    batch.apply()
    if passed > done:
        tx.set(kept_at, [last, upto, passed])
        return passed
    catalogue.save(tx, name, catalogue.change_index(definition, there, state=READY))
    tx.delete(kept_at)
    return None


def _part(
    tx: Transaction, definition: Definition, last: bytes, upto: bytes, size: int, room: int = _BATCH_BYTES
) -> Iterator[tuple[bytes, dict[str, Any], int]]:
    """(id, document, expiry) of the next documents behind *upto*, and up to *last*: *size* of them, *room*
    bytes."""
    if not last:
        return
    prefix = keyspace.document_prefix(definition.id)
    start = prefix + upto + b"\0" if upto else prefix
    stop = SpaceKey(prefix + last + b"\0")
    for key in list(tx.keys(start=SpaceKey(start), stop=stop, limit=size)):
        found = layering.entry_us(tx, SpaceKey(key))
        if found is None:  # it has expired meanwhile
            continue
        document, _, expires_us = found
        yield key[len(prefix) :], document, expires_us
        room -= len(values.pack(document))
        if room <= 0:
            return


def _give_up(db: _Database, name: str, index: Index) -> None:
    """Takes an index away that can't be built, if it is still the same."""

    def take_away(tx: Transaction) -> None:
        definition = catalogue.hold(tx, name)
        there = None if definition is None else definition.index(index.name)
        if definition is None or there is None or there.identity != index.identity or there.ready:
            return
        _remove(tx, name, definition, there)

    db.transact(take_away, retries=RETRIES)


def _remove(tx: Transaction, name: str, definition: Definition, index: Index) -> None:
    catalogue.save(tx, name, catalogue.without_index(definition, index))
    layering.discard_range(tx, *keyspace.index_range(definition.id, index.n))
    tx.delete(keyspace.build_key(definition.id, index.n))


def drop_index(tx: Transaction, name: str, index: str) -> bool:
    """Takes an index and its entries away; False if there is none of that name."""
    definition = catalogue.hold(tx, name)
    there = None if definition is None else definition.index(index)
    if definition is None or there is None:
        return False
    _remove(tx, name, definition, there)
    return True


def make_within(tx: Transaction, name: str, wanted: IndexDefinition, given: Callable[[Index], None]) -> None:
    """Defines and builds an index in one transaction: of all documents that it sees. What is refused leaves
    the transaction as it was."""
    before = tx.savepoint()
    is_done = False
    try:
        definition, index = define(tx, name, wanted, given)
        if not index.ready:
            batch = Batch(tx, name, definition)
            # Who has written before this commits knew of no index, whatever the isolation.
            layering.guard_range(tx, *keyspace.document_range(definition.id))
            last = _last_document(tx, definition)
            for id, document, expires_us in _part(tx, definition, last, b"", 1 << 62, 1 << 62):
                batch.index(index, document, id, expires_us)
            batch.apply()
            catalogue.save(tx, name, catalogue.change_index(definition, index, state=READY))
        is_done = True
    finally:
        if not is_done:
            tx.rollback_to(before)


# ------------------------------------------------------------------------------------------------ checking


class _Findings:
    """What a check has found in one index."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.problems: list[Problem] = []
        self._more = 0

    def add(self, text: str) -> None:
        if len(self.problems) < _SHOWN:
            self.problems.append(Problem(self._where, text))
        else:
            self._more += 1

    def ended(self) -> list[Problem]:
        if self._more:
            self.problems.append(Problem(self._where, f"and {self._more} more of that kind"))
        return self.problems


def check(source: Source, name: str) -> Report:
    """Compares every index of a collection with its documents, both ways, as *source* sees them.

    Raises IndexMismatch if a key function is not known here.
    """
    definition = catalogue.load(source, name)
    if definition is None:
        return Report([], Figures({"documents": 0, "indexes": {}}))
    problems: list[Problem] = []
    entries: dict[str, int] = {}
    documents = _check_documents(source, name, definition, problems)
    for index in definition.indexes:
        findings = _Findings(f"{name}, index {index.name}")
        wanted = _check_wanted(source, name, definition, index, findings)
        found = _check_found(source, name, definition, index, findings)
        if index.ready and wanted != found and not findings.problems:
            findings.add(f"it has {found} entries, and the documents make {wanted}")
        entries[index.name] = found
        problems += findings.ended()
    return Report(problems, Figures({"documents": documents, "indexes": entries}))


def _documents(source: Source, definition: Definition) -> Iterator[tuple[bytes, dict[str, Any]]]:
    first, stop = keyspace.document_range(definition.id)
    for key, document in source.range(first, stop):
        yield key[len(first.stored) :], document


def _check_documents(source: Source, name: str, definition: Definition, problems: list[Problem]) -> int:
    findings, count = _Findings(name), 0
    for id, document in _documents(source, definition):
        count += 1
        if type(document) is not dict or "_id" not in document:
            findings.add(f"what is stored under the _id {keyspace.id_of(id)!r} is no document")
        elif keyspace.id_bytes(document["_id"]) != id:
            findings.add(f"the document {document['_id']!r} is stored under the _id {keyspace.id_of(id)!r}")
    problems += findings.ended()
    return count


def _check_wanted(
    source: Source, name: str, definition: Definition, index: Index, findings: _Findings
) -> int:
    """Has each document its entries, with its expiry? How many that are."""
    wanted = 0
    documents = keyspace.document_prefix(definition.id)
    is_marked = SpaceKey(index.mark) in source
    for id, document in _documents(source, definition):
        keys = index.entries(name, document, id)
        wanted += len(keys)
        if not index.ready:
            continue
        if len(keys) > 1 and not is_marked:
            findings.add(
                f"the document {keyspace.id_of(id)!r} has several entries, and the index is not marked so"
            )
        own = layering.entry_us(source, SpaceKey(documents + id))
        for key in keys:
            entry = layering.entry_us(source, SpaceKey(key))
            if own is None:
                continue
            if entry is None or entry[0] != id:
                findings.add(f"an entry of the document {keyspace.id_of(id)!r} is missing")
            elif entry[2] != own[2]:
                findings.add(
                    f"an entry of the document {keyspace.id_of(id)!r} expires at another time than it does"
                )
    return wanted


def _check_found(source: Source, name: str, definition: Definition, index: Index, findings: _Findings) -> int:
    """Is each entry one of a document? How many there are."""
    documents = keyspace.document_prefix(definition.id)
    found = 0
    for key, id in source.range(*keyspace.index_range(definition.id, index.n)):
        if key == index.mark:
            continue
        found += 1
        document = source.get(SpaceKey(documents + id))
        if document is None or key not in index.entries(name, document, id):
            findings.add(f"an entry says the document {keyspace.id_of(id)!r}, which has none there")
    return found
