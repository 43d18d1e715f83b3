"""The commands of `memdb shell` on documents.

Owns: DOCUMENT_COMMANDS, a part of the shell's table.

Invariants: those of shell_commands.py. Inside a transaction every command but `index` with fields, which
builds in commits of its own, is part of it. A command on a collection that isn't there answers no; only
`insert` and `index` with fields make one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memdb.cli import documents, notation, words
from memdb.cli.answers import Answer, Command, UsageError, number
from memdb.cli.output import facts, plural

if TYPE_CHECKING:
    from memdb.cli.shell_commands import Session

__all__ = ["DOCUMENT_COMMANDS"]


def _document(word: str, what: str) -> dict[str, Any]:
    """As Python or as JSON writes it, with the tags of notation.py."""
    value = words.parse_value(word)
    if not isinstance(value, dict):
        raise UsageError(f"{what} must be an object, as in {{'name': 'Alice'}}, not {word}")
    untagged: dict[str, Any] = notation.from_json(value)
    if not isinstance(untagged, dict):
        raise UsageError(f"{what} must be an object, as in {{'name': 'Alice'}}, not {word}")
    return untagged


def _text(word: str) -> str:
    """A name as it is typed: quotes are for names with spaces, and a name may look like a number."""
    value = words.parse(word)
    return value if isinstance(value, str) else word


def _fields(options: dict[str, str], name: str) -> str | None:
    return _text(options[name]) if name in options else None


def _filter(arguments: list[str]) -> dict[str, Any] | None:
    return _document(arguments[1], "FILTER") if len(arguments) > 1 else None


def _whole(options: dict[str, str], name: str, default: int) -> int:
    value = number(options[name], name) if name in options else default
    if type(value) is not int or value < 0:
        raise UsageError(f"{name} is a whole number, 0 or more, not {options[name]}")
    return value


def _collections(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    rows = [documents.collection_row(session.target, name) for name in sorted(session.target.collections())]
    return Answer(list(rows), tables=[documents.collections_table(rows)])


def _find(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    name = _text(arguments[0])
    refusal = documents.no_collection(session.target, name)
    if refusal is not None:
        return Answer(no=refusal)
    found, wanted = session.target.collection(name), _filter(arguments)
    if "--count" in options:
        count = found.count(wanted)
        return Answer([{"count": count}], str(count))
    limit = _whole(options, "--limit", documents.SHOWN)
    given = documents.find_options(
        _fields(options, "--sort"), _whole(options, "--skip", 0), limit + 1, _fields(options, "--fields")
    )
    with found.find(wanted, **given) as cursor:
        rows = list(cursor)
    return Answer(rows[:limit], each=True, more=len(rows) > limit)


def _explain(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    name = _text(arguments[0])
    refusal = documents.no_collection(session.target, name)
    if refusal is not None:
        return Answer(no=refusal)
    limit = _whole(options, "--limit", 0) if "--limit" in options else None
    given = documents.find_options(_fields(options, "--sort"), _whole(options, "--skip", 0), limit, None)
    with session.target.collection(name).find(_filter(arguments), **given) as cursor:
        plan = cursor.explain().to_dict()
    return Answer([plan], tables=[facts(documents.plan_facts(plan))])


def _insert(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    given = [_document(word, "DOCUMENT") for word in arguments[1:]]
    ttl = number(options["--ttl"], "--ttl, in seconds,") if "--ttl" in options else None
    inserted = session.target.collection(_text(arguments[0])).insert_many(given, ttl=ttl)
    ids = [document["_id"] for document in inserted]
    return Answer([{"_id": found} for found in ids], "\n".join(words.write(found) for found in ids))


def _update_where(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    changes = _document(arguments[2], "CHANGES")
    return _changed(session, arguments, "updated", lambda found, wanted: found.update_where(wanted, changes))


def _delete_where(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    return _changed(session, arguments, "deleted", lambda found, wanted: found.delete_where(wanted))


def _changed(session: Session, arguments: list[str], what: str, change: Any) -> Answer:
    name = _text(arguments[0])
    refusal = documents.no_collection(session.target, name)
    if refusal is not None:
        return Answer(no=refusal)
    done = change(session.target.collection(name), _filter(arguments))
    no = None if done else f"no document of {name!r} matches"
    return Answer([{what: done}], f"{plural(done, 'document')} {what}", no=no)


def _index(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    name = _text(arguments[0])
    fields = documents.field_list(_text(arguments[1])) if len(arguments) > 1 else None
    if "--drop" in options and (fields or len(options) > 1):
        raise UsageError("--drop takes the name of an index, and goes with nothing else")
    if fields is None and "--drop" not in options and options:
        raise UsageError("--name, --unique and --where are of a new index: say its FIELDS")
    if fields is None:
        refusal = documents.no_collection(session.target, name)
        if refusal is not None:
            return Answer(no=refusal)
    if fields is not None or "--drop" in options:
        refusal = _change_index(session, name, fields, options)
        if refusal is not None:
            return Answer(no=refusal)
    rows = [documents.index_row(one) for one in session.target.collection(name).indexes()]
    return Answer(list(rows), tables=[documents.indexes_table(rows)])


def _change_index(
    session: Session, name: str, fields: list[str] | None, options: dict[str, str]
) -> str | None:
    """Why the answer is no: there is no such index to drop."""
    if session.transaction is not None:
        raise UsageError("an index is built in commits of its own; `commit` or `abort` the transaction first")
    into = session.db.collection(name)
    if fields is None:
        return documents.dropped_index(into, _text(options["--drop"]))
    where = _document(options["--where"], "--where") if "--where" in options else None
    into.create_index(fields, name=_fields(options, "--name"), unique="--unique" in options, where=where)
    return None


def _drop_collection(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    name = _text(arguments[0])
    refusal = documents.no_collection(session.target, name)
    if refusal is not None:
        return Answer(no=refusal)
    _outside(session)
    session.db.drop_collection(name)
    return Answer([{"dropped": name}])


def _rename_collection(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    name = _text(arguments[0])
    refusal = documents.no_collection(session.target, name)
    if refusal is not None:
        return Answer(no=refusal)
    _outside(session)
    session.db.rename_collection(name, _text(arguments[1]))
    return Answer([{"renamed": name, "to": _text(arguments[1])}])


def _outside(session: Session) -> None:
    if session.transaction is not None:
        raise UsageError("this is a commit of its own; `commit` or `abort` the open transaction first")


_PART: Final = {"--sort": True, "--skip": True, "--limit": True}

DOCUMENT_COMMANDS: Final[dict[str, Command]] = {
    "collections": Command("", "the collections, with their documents and indexes", _collections),
    "find": Command(
        "COLLECTION [FILTER] [--sort FIELDS] [--skip N] [--limit N] [--fields FIELDS] [--count]",
        f"documents that match, {documents.SHOWN} unless --limit is given", _find, 2, 1,
        {**_PART, "--fields": True, "--count": False}, collections=True,
    ),
    "explain": Command(
        "COLLECTION [FILTER] [--sort FIELDS] [--skip N] [--limit N]",
        "what `find` does, and what it costs", _explain, 2, 1, _PART, collections=True,
    ),
    "insert": Command(
        "COLLECTION DOCUMENT... [--ttl SECONDS]", "insert documents, all in one commit", _insert, 1000, 2,
        {"--ttl": True}, collections=True,
    ),
    "update-where": Command(
        "COLLECTION FILTER CHANGES", "change every document that matches", _update_where, 3, 3,
        collections=True,
    ),
    "delete-where": Command(
        "COLLECTION FILTER", "delete every document that matches", _delete_where, 2, 2, collections=True
    ),
    "index": Command(
        "COLLECTION [FIELDS] [--name NAME] [--unique] [--where FILTER] [--drop NAME]",
        "create an index over fields, as in city,-age, or drop one; without either, list them", _index, 2, 1,
        {"--name": True, "--unique": False, "--where": True, "--drop": True}, collections=True,
    ),
    "drop-collection": Command(
        "COLLECTION", "drop a collection with its documents and indexes", _drop_collection, 1, 1,
        collections=True,
    ),
    "rename-collection": Command(
        "COLLECTION NAME", "give a collection another name", _rename_collection, 2, 2, collections=True
    ),
}  # fmt: skip
