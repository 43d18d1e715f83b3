"""The commands of `memdb shell`: what each takes, does and answers.

Owns: the table COMMANDS, from which help, completion and the reference page come, and the open transaction.

Invariants:
- A command is one call of the database, or of the open transaction; nothing is remembered between commands
  but that transaction.
- Answers are plain data; the shell prints them for people or as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import memdb
from memdb.cli import words
from memdb.cli.answers import Answer, Command, UsageError, number
from memdb.cli.shell_documents import DOCUMENT_COMMANDS

__all__ = ["COMMANDS", "SCAN_LIMIT", "Session"]

SCAN_LIMIT: Final = 100
"""Keys that `scan` shows unless --limit is given."""


class Session:
    """A handle and, between `begin` and `commit`, a transaction."""

    def __init__(self, db: memdb.Database) -> None:
        self.db = db
        self.transaction: Any = None

    @property
    def target(self) -> Any:
        """What calls go to: the open transaction, else the database. They share the calls made here."""
        return self.db if self.transaction is None else self.transaction

    def run(self, line: str) -> Answer:
        """Does one line. Raises UsageError and what the database raises."""
        parts = words.split(line.strip())
        if not parts:
            return Answer()
        if not parts[-1].whole:
            raise UsageError(f"{parts[-1].text}: a quote or a bracket is not closed")
        name, given = parts[0].text, [part.text for part in parts[1:]]
        command = COMMANDS.get("exit" if name == "quit" else name)
        if command is None:
            raise UsageError(f"no command {name!r}; `help` lists them")
        arguments, options = _sorted_out(name, command, given)
        return command.run(self, arguments, options)

    def close(self) -> bool:
        """Aborts the open transaction; was there one?"""
        if self.transaction is None:
            return False
        ended, self.transaction = self.transaction, None
        ended.abort()
        return True


def _sorted_out(name: str, command: Command, given: list[str]) -> tuple[list[str], dict[str, str]]:
    arguments, options = list[str](), dict[str, str]()
    rest = iter(given)
    for word in rest:
        if not word.startswith("--"):
            arguments.append(word)
            continue
        if word not in command.options:
            known = ", ".join(command.options) or "none"
            raise UsageError(
                f"{name} has no option {word}; there are: {known}. Text that begins so is 'quoted'"
            )
        value = next(rest, None) if command.options[word] else ""
        if value is None:
            raise UsageError(f"{name}: {word} needs a value")
        options[word] = value
    if not command.least <= len(arguments) <= command.most:
        raise UsageError(f"usage: {name} {command.usage}".rstrip() + "; text with spaces is 'quoted'")
    return arguments, options


# ------------------------------------------------------------------------------------------------ keys


def _get(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    key = words.parse(arguments[0])
    value = session.target.get(key, memdb.MISSING)
    if value is memdb.MISSING:
        return Answer(no=f"no key {key!r}")
    return Answer([{"key": key, "value": value}], value=value)


def _set(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    key, value = words.parse(arguments[0]), words.parse_value(arguments[1])
    given: dict[str, Any] = {}
    if "--ttl" in options:
        given["ttl"] = number(options["--ttl"], "--ttl, in seconds,")
    if "--if-absent" in options:
        given["if_absent"] = True
    written = session.target.set(key, value, **given)
    no = None if written else f"{key!r} exists, and was left as it is"
    return Answer([{"written": written}], no=no)


def _delete(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    keys = [words.parse(argument) for argument in arguments]
    if len(keys) == 1:
        deleted = int(bool(session.target.delete(keys[0])))
    else:
        deleted = int(session.target.delete_many(keys))
    shown = f"{deleted} of {len(keys)} deleted" if len(keys) > 1 else ""
    return Answer([{"deleted": deleted}], shown, no=None if deleted else f"no key {arguments[0]}")


def _bounds(arguments: list[str], options: dict[str, str]) -> dict[str, Any]:
    given = {name: words.parse(options[f"--{name}"]) for name in ("start", "stop") if f"--{name}" in options}
    if arguments:
        given["prefix"] = words.parse(arguments[0])
    return given


def _scan(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    limit = int(number(options.get("--limit", str(SCAN_LIMIT)), "--limit"))
    given = {**_bounds(arguments, options), "reverse": "--reverse" in options, "limit": limit + 1}
    if "--keys" in options:
        rows = [{"key": key} for key in session.target.keys(**given)]
    else:
        rows = [{"key": key, "value": value} for key, value in session.target.range(**given)]
    return Answer(rows[:limit], rows=True, more=len(rows) > limit)


def _count(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    bounds = _bounds(arguments, options)
    count = len(session.target.keys(**bounds)) if bounds else len(session.target)
    return Answer([{"count": count}], str(count))


def _incr(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    by = number(arguments[1], "the number to add") if len(arguments) > 1 else 1
    value = session.target.increment(words.parse(arguments[0]), by)
    return Answer([{"value": value}], value=value)


# ---------------------------------------------------------------------------------------------- expiry


def _ttl(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    key = words.parse(arguments[0])
    if key not in session.target:
        return Answer(no=f"no key {key!r}")
    left = session.target.ttl(key)
    return Answer([{"ttl": left}], "it does not expire" if left is None else f"{left:.3f} s")


def _expire(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    key, ttl = words.parse(arguments[0]), number(arguments[1], "the time to live, in seconds,")
    done = bool(session.target.expire(key, ttl))
    return Answer([{"set": done}], no=None if done else f"no key {key!r}")


def _persist(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    key = words.parse(arguments[0])
    done = bool(session.target.persist(key))
    no = None if done else f"{key!r} does not exist, or does not expire"
    return Answer([{"removed": done}], no=no)


# ---------------------------------------------------------------------------------------- transactions


def _begin(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    if session.transaction is not None:
        raise UsageError("a transaction is open already, and they don't nest; `commit` or `abort` ends it")
    isolation: Literal["serializable", "snapshot"] = "snapshot" if "--snapshot" in options else "serializable"
    session.transaction = session.db.transaction(isolation=isolation)
    return Answer([{"begun": isolation}])


def _open(session: Session) -> Any:
    if session.transaction is None:
        raise UsageError("no transaction is open; `begin` opens one")
    ended, session.transaction = session.transaction, None
    return ended


def _commit(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    transaction = _open(session)  # over, whatever comes of it
    transaction.commit()
    lsn = transaction.commit_lsn
    return Answer([{"committed": True, "lsn": lsn}], "nothing was written" if lsn is None else f"LSN {lsn}")


def _abort(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    _open(session).abort()
    return Answer([{"aborted": True}])


# ------------------------------------------------------------------------------------------ the engine


def _info(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    from memdb.cli.engine import info_tables

    facts = session.db.info().to_dict()
    return Answer([facts], tables=list(info_tables(facts)))


def _readers(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    from memdb.cli.watching import readers_table

    rows = session.db.readers()
    data = [{"readers": [one.to_dict() for one in rows]}]
    if not rows:
        return Answer(data, "nobody holds a snapshot, an iterator or a view")
    return Answer(data, tables=[readers_table(rows)])


def _help(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    if arguments and arguments[0] not in COMMANDS:
        raise UsageError(f"no command {arguments[0]!r}; `help` lists them")
    named = {arguments[0]: COMMANDS[arguments[0]]} if arguments else COMMANDS
    rows = [{"command": f"{name} {one.usage}".rstrip(), "help": one.help} for name, one in named.items()]
    return Answer(list(rows), tables=[_help_table(rows)])


def _help_table(rows: Iterable[dict[str, str]]) -> Any:
    from memdb.cli import output

    return output.facts({row["command"]: row["help"] for row in rows})


def _exit(session: Session, arguments: list[str], options: dict[str, str]) -> Answer:
    raise EOFError


_RANGE: Final = {"--start": True, "--stop": True}

COMMANDS: Final[dict[str, Command]] = {
    "get": Command("KEY", "the value of a key", _get, 1, 1, keys=True),
    "set": Command(
        "KEY VALUE [--ttl SECONDS] [--if-absent]", "store a value", _set, 2, 2,
        {"--ttl": True, "--if-absent": False}, keys=True,
    ),
    "delete": Command("KEY...", "delete keys, all in one commit", _delete, 1000, 1, keys=True),
    "scan": Command(
        "[PREFIX] [--start KEY] [--stop KEY] [--reverse] [--limit N] [--keys]",
        f"keys and values in key order, {SCAN_LIMIT} unless --limit is given", _scan, 1, 0,
        {**_RANGE, "--reverse": False, "--limit": True, "--keys": False}, keys=True,
    ),
    "count": Command("[PREFIX] [--start KEY] [--stop KEY]", "how many keys", _count, 1, 0, _RANGE, keys=True),
    "incr": Command("KEY [BY]", "add to a number; a missing one counts as 0", _incr, 2, 1, keys=True),
    "ttl": Command("KEY", "seconds until a key expires", _ttl, 1, 1, keys=True),
    "expire": Command("KEY SECONDS", "have a key expire", _expire, 2, 2, keys=True),
    "persist": Command("KEY", "have a key stay", _persist, 1, 1, keys=True),
    **DOCUMENT_COMMANDS,
    "begin": Command(
        "[--snapshot]", "open a transaction, serializable unless --snapshot is given", _begin,
        options={"--snapshot": False},
    ),
    "commit": Command("", "commit the open transaction", _commit),
    "abort": Command("", "drop the open transaction", _abort),
    "info": Command("", "what the engine is and does", _info),
    "readers": Command("", "who holds snapshots, iterators and views", _readers),
    "help": Command("[COMMAND]", "this", _help, 1, 0),
    "exit": Command("", "end the shell; so does Ctrl-D", _exit),
}  # fmt: skip
