"""Commands on documents: collections, find, insert, update-where, delete-where, index, explain and the two
that drop and rename a collection.

Invariants:
- Documents, filters and changes come in, and with `--json` go out, as JSON objects with the tags of
  notation.py; out of `find --json` and into `insert` goes one a line.
- A command on a collection that isn't there answers no, with the names of those that are; only `insert` and
  `index` with fields make one.
- `insert` says how many documents are in, also where it ends with an error: each batch is one commit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import click

import memdb
from memdb.cli import errors, notation, output
from memdb.cli.opening import opened

PATH = click.Path(path_type=str)
SHOWN: Final = 100
"""Documents that `find` shows to people unless --limit is given."""
BATCH: Final = 1000
"""Documents that `insert` puts into one commit."""


def _as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")(command)


def _on_collection(command: Callable[..., Any]) -> Callable[..., Any]:
    named = click.argument("collection")(command)
    return click.argument("directory", type=PATH)(named)


def no_collection(db: Any, name: str) -> str | None:
    """Why the answer is no: there is no such collection. None if there is one."""
    known = db.collections()
    if name in known:
        return None
    others = f"; there are: {', '.join(sorted(known))}" if known else "; there is none"
    return f"no collection {name!r}{others}"


def _there(db: memdb.Database, name: str) -> Any:
    """The collection; ends the command with `no` if there is none."""
    refusal = no_collection(db, name)
    if refusal is not None:
        click.echo(f"memdb: {refusal}", err=True)
        raise SystemExit(errors.NO)
    return db.collection(name)


def field_list(text: str) -> list[str]:
    """Fields as they are typed, with commas between them.

    >>> field_list("city,-age")
    ['city', '-age']
    """
    fields = [part.strip() for part in text.split(",")]
    if not all(part.removeprefix("-") for part in fields):
        raise notation.NotationError(
            f"FIELDS are names with commas between them, as in city,-age: not {text!r}"
        )
    return fields


def find_options(sort: str | None, skip: int, limit: int | None, fields: str | None) -> dict[str, Any]:
    """The arguments of `Collection.find` but for the filter."""
    return {
        "sort": field_list(sort) if sort else None,
        "skip": skip,
        "limit": limit,
        "fields": field_list(fields) if fields else None,
    }


def _filter(text: str | None) -> dict[str, Any] | None:
    return None if text is None else notation.parse_document(text, "FILTER")


# ---------------------------------------------------------------------------------------------------- looking


@click.command()
@click.argument("directory", type=PATH)
@_as_json
def collections(directory: str, json_: bool) -> None:
    """List the collections of DIRECTORY: documents and indexes of each. With --json: one object a line."""
    with errors.reported(), opened(directory, readonly=True) as db:
        rows = [collection_row(db, name) for name in sorted(db.collections())]
        if json_:
            for row in rows:
                output.print_json(row)
        else:
            output.out().print(collections_table(rows))


def collection_row(db: Any, name: str) -> dict[str, Any]:
    """What is told of a collection; `db` may be a transaction."""
    found = db.collection(name)
    return {"name": name, "documents": found.count(), "indexes": [index.name for index in found.indexes()]}


def collections_table(rows: Iterable[dict[str, Any]]) -> Any:
    """The same for people."""
    cells = [[row["name"], f"{row['documents']:,}", ", ".join(row["indexes"])] for row in rows]
    return output.table(["collection", ("documents", "right"), "indexes"], cells)


@click.command()
@_on_collection
@click.argument("filter_", metavar="[FILTER]", required=False)
@click.option("--sort", metavar="FIELDS", help="Order, as in `city,-age`; `-` for descending.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Leave out so many of the first.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many; for people 100 unless given.")
@click.option("--fields", metavar="FIELDS", help="Only these fields, as in `name,address.city`.")
@click.option("--count", is_flag=True, help="Print how many there are instead.")
@_as_json
def find(
    directory: str, collection: str, filter_: str | None, sort: str | None, skip: int, limit: int | None,
    fields: str | None, count: bool, json_: bool,
) -> None:  # fmt: skip
    """Print the documents of COLLECTION that match FILTER, a JSON object as in '{"age": {"$gte": 18}}', as of
    one moment; all without FILTER. With --json: one document a line.
    """
    with errors.reported():
        wanted = _filter(filter_)
        shown = limit if json_ or limit is not None else SHOWN
        # One more than is shown tells whether there is more.
        asked = shown + 1 if limit is None and shown is not None else shown
        options = find_options(sort, skip, asked, fields)
        with opened(directory, readonly=True) as db:
            found = _there(db, collection)
            if count:
                number = found.count(wanted)
                click.echo(notation.dumps({"count": number}) if json_ else str(number))
                return
            with found.find(wanted, **options) as documents:
                _print_documents(documents, shown, json_)


def _print_documents(documents: Iterable[Any], shown: int | None, json_: bool) -> None:
    if json_:
        for document in documents:
            output.print_json(document)
        return
    for number, document in enumerate(documents):
        if shown is not None and number == shown:
            output.err().print(f"{shown} documents shown; there are more: use --limit, --skip or --json")
            return
        click.echo(notation.to_text(document))


@click.command()
@_on_collection
@click.argument("filter_", metavar="[FILTER]", required=False)
@click.option("--sort", metavar="FIELDS", help="Order, as in `city,-age`; `-` for descending.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Leave out so many of the first.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many.")
@_as_json
def explain(
    directory: str, collection: str, filter_: str | None, sort: str | None, skip: int, limit: int | None,
    json_: bool,
) -> None:  # fmt: skip
    """Run `find` with FILTER and print what it took instead of what it found: the index that was used, the
    index entries and the documents that were looked at.
    """
    with errors.reported():
        wanted = _filter(filter_)
        options = find_options(sort, skip, limit, None)
        with opened(directory, readonly=True) as db:
            found = _there(db, collection)
            with found.find(wanted, **options) as documents:
                plan = documents.explain()
        if json_:
            output.print_json(plan.to_dict())
        else:
            output.out().print(output.facts(plan_facts(plan.to_dict())))


def plan_facts(plan: dict[str, Any]) -> dict[str, object]:
    """A plan for people."""
    return {name.replace("_", " "): _plan_figure(value) for name, value in plan.items()}


def _plan_figure(value: Any) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ---------------------------------------------------------------------------------------------------- writing


@click.command()
@_on_collection
@click.argument("documents", metavar="[DOCUMENT]...", nargs=-1)
@click.option("--ttl", type=float, help="Seconds after which they expire; without it, they stay.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=BATCH, show_default=True,
    help="Documents a commit; all of them are in, or none.",
)  # fmt: skip
@_as_json
def insert(
    directory: str, collection: str, documents: tuple[str, ...], ttl: float | None, batch: int, json_: bool
) -> None:
    """Insert each DOCUMENT, a JSON object, into COLLECTION; without one, those on standard input, one a line.
    With --json: the `_id` of each, one object a line. Creates the database and the collection if there is
    none.
    """
    with errors.reported():
        lines = _lines(documents)
        done = 0
        with opened(directory) as db:
            into = db.collection(collection)
            try:
                while portion := list(islice(lines, batch)):
                    inserted = into.insert_many(portion, ttl=ttl)
                    done += len(inserted)
                    if json_:
                        for document in inserted:
                            output.print_json({"_id": document["_id"]})
            finally:
                if not json_:
                    click.echo(f"{output.plural(done, 'document')} inserted", err=done == 0)


def _lines(given: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if given:
        for text in given:
            yield notation.parse_document(text, "DOCUMENT")
        return
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield notation.parse_document(line, f"line {number}")


@click.command("update-where")
@_on_collection
@click.argument("filter_", metavar="FILTER")
@click.argument("changes")
@_as_json
def update_where(directory: str, collection: str, filter_: str, changes: str, json_: bool) -> None:
    """Change every document of COLLECTION that matches FILTER, all in one commit. CHANGES is a JSON object:
    fields, as in '{"age": 31}', or operators, as in '{"$inc": {"age": 1}}'. Exit code 1 if none matches.
    """
    with errors.reported():
        wanted, parsed = _filter(filter_), notation.parse_document(changes, "CHANGES")
        with opened(directory, create=False) as db:
            done = _there(db, collection).update_where(wanted, parsed)
        _told(done, "updated", collection, json_)


@click.command("delete-where")
@_on_collection
@click.argument("filter_", metavar="FILTER")
@_as_json
def delete_where(directory: str, collection: str, filter_: str, json_: bool) -> None:
    """Delete every document of COLLECTION that matches FILTER, all in one commit; '{}' matches all. Exit
    code 1 if none matches.
    """
    with errors.reported():
        wanted = _filter(filter_)
        with opened(directory, create=False) as db:
            done = _there(db, collection).delete_where(wanted)
        _told(done, "deleted", collection, json_)


def _told(done: int, what: str, collection: str, json_: bool) -> None:
    if json_:
        output.print_json({what: done})
    elif done:
        click.echo(f"{output.plural(done, 'document')} {what}")
    if not done:
        click.echo(f"memdb: no document of {collection!r} matches", err=True)
        raise SystemExit(errors.NO)


# ------------------------------------------------------------------------------------ indexes and collections


@click.command()
@_on_collection
@click.argument("fields", required=False)
@click.option("--name", help="Its name; otherwise made of its fields.")
@click.option("--unique", is_flag=True, help="No two documents with the same values.")
@click.option("--where", metavar="FILTER", help="Only documents that match this; a JSON object.")
@click.option("--drop", metavar="NAME", help="Drop the index of this name instead.")
@_as_json
def index(
    directory: str, collection: str, fields: str | None, name: str | None, unique: bool, where: str | None,
    drop: str | None, json_: bool,
) -> None:  # fmt: skip
    """Create an index of COLLECTION over FIELDS, as in `city,-age`; `-` is for descending, and FIELDS that
    begin with it go after `--`. Writes go on meanwhile. Without FIELDS: list the indexes.
    """
    with errors.reported():
        if drop is not None and (fields or name or unique or where):
            raise notation.NotationError("--drop takes the name of an index, and goes with nothing else")
        if fields is None and (name or unique or where):
            raise notation.NotationError("--name, --unique and --where are of a new index: say its FIELDS")
        condition = None if where is None else notation.parse_document(where, "--where")
        with opened(directory, create=False, readonly=fields is None and drop is None) as db:
            if drop is not None:
                _there(db, collection).drop_index(drop)
            elif fields is not None:
                _create(db.collection(collection), field_list(fields), name, unique, condition, json_)
            rows = [index_row(one) for one in _there(db, collection).indexes()]
        if json_:
            for row in rows:
                output.print_json(row)
        else:
            output.out().print(indexes_table(rows))


def _create(
    into: Any, fields: list[str], name: str | None, unique: bool, where: dict[str, Any] | None, json_: bool
) -> None:
    with output.bar(shown=not json_) as progress:
        task = progress.add_task("building", total=None)
        into.create_index(
            fields, name=name, unique=unique, where=where,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip


def index_row(one: Any) -> dict[str, Any]:
    """What is told of an index, as JSON has it."""
    return {**one.to_dict(), "fields": list(one.fields)}


def indexes_table(rows: Iterable[dict[str, Any]]) -> Any:
    """Indexes for people."""
    cells = [
        [
            row["name"],
            ", ".join(row["fields"]) if row["key"] is None else row["key"] or "a function without a name",
            "yes" if row["unique"] else "",
            "" if row["where"] is None else notation.to_text(row["where"]),
            "yes" if row["ready"] else "being built",
        ]
        for row in rows
    ]
    return output.table(["index", "fields", "unique", "where", "ready"], cells)


@click.command("drop-collection")
@_on_collection
@_as_json
def drop_collection(directory: str, collection: str, json_: bool) -> None:
    """Drop COLLECTION with its documents and indexes, in one commit."""
    with errors.reported():
        with opened(directory, create=False) as db:
            _there(db, collection)
            db.drop_collection(collection)
        if json_:
            output.print_json({"dropped": collection})


@click.command("rename-collection")
@_on_collection
@click.argument("name")
@_as_json
def rename_collection(directory: str, collection: str, name: str, json_: bool) -> None:
    """Give COLLECTION another NAME, which no collection may have."""
    with errors.reported():
        with opened(directory, create=False) as db:
            _there(db, collection)
            db.rename_collection(collection, name)
        if json_:
            output.print_json({"renamed": collection, "to": name})
