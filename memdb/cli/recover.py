"""`memdb recover`: what can be kept of a damaged database, and keeping it.

Owns: the locks while it looks and works, and what it prints. What is kept and how is durability's.

Invariants:
- Without --yes nothing is changed, not a byte.
- It never works beside an engine: the kernel's locks say whether one runs, and are held until the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from memdb import errors as memdb_errors
from memdb import options
from memdb.actors.directory import Home
from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock
from memdb.cli import errors, output, stored
from memdb.durability import offline
from memdb.durability.files import RealClock, RealFiles
from memdb.durability.report import RecoveryReport

_MODES = ("strict", "until-damage", "salvage")
_LOCKS = (("GROUP", STARTER_BYTE), ("GROUP", GROUP_BYTE), ("LOCK", 0))


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option(
    "--mode", type=click.Choice(_MODES), default="strict", show_default=True,
    help="At damage: refuse; stop before it; or skip it, and take every whole commit that is left.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do it. Without this nothing is changed.")
@click.option("--max-memory", help="Memory that it may take, as 4GiB; enough for the files unless given.")
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def recover(directory: str, mode: str, yes: bool, max_memory: str | None, json_: bool) -> None:
    """Show what a recovery of DIRECTORY would keep and lose, and with --yes carry it out. What is left out is
    kept in DIRECTORY/quarantine. Refused while an engine runs there.
    """
    with errors.reported():
        limit = options.OPTIONS["max_memory"].parse("max_memory", max_memory) if max_memory else None
        with _alone(directory, make=yes) as files:
            outcome = _run(files, mode.replace("-", "_"), yes, limit)
        again = f"memdb recover {shlex.quote(directory)} --mode {mode} --yes"
        if json_:
            output.print_json(_plain(outcome, mode, yes, None if yes else again))
        else:
            _show(outcome, mode, yes, again)
        if _loses(outcome.report):
            raise SystemExit(errors.NO)


def _run(files: RealFiles, mode: str, yes: bool, limit: Any) -> offline.Outcome:
    room = int(limit or offline.room_for(files))
    if yes:
        return offline.carry_out(files, RealClock(), mode, room, logging.getLogger("memdb.recover"))
    return offline.preview(files, mode, room)


@contextlib.contextmanager
def _alone(directory: str, *, make: bool) -> Iterator[RealFiles]:
    """The files of a directory that no engine uses, nor can be started on meanwhile. ``make``: lock files."""
    try:
        home = Home(directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise memdb_errors.NotADatabase(
            f"there is no directory {directory}; name the directory of a database", path=directory
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(home.close)
        present = os.listdir(home.fd)
        if not {"MANIFEST", "wal", "checkpoints"} & set(present):
            raise memdb_errors.NotADatabase(
                f"{directory} holds no database: it has no MANIFEST, no wal/ and no checkpoints/",
                path=directory,
            )
        for name, byte in _LOCKS:
            if name not in present and not make:  # no engine has ever run here
                continue
            lock = stack.enter_context(FileLock(home.fd, name, byte))
            if not lock.acquire(wait=False):
                raise _in_use(directory, lock)
            if make and byte != STARTER_BYTE:
                lock.write_note("memdb recover")
        yield RealFiles(home.fd)


def _in_use(directory: str, lock: FileLock) -> memdb_errors.Error:
    holder = lock.read_note()
    who = f"{holder.command}, pid {holder.pid}" if holder is not None else "it left no name"
    return memdb_errors.Error(
        f"an engine runs on {directory} ({who}): nothing was changed; end it with "
        f"`memdb stop {shlex.quote(directory)}`, then repeat this"
    )


def _plain(outcome: offline.Outcome, mode: str, changed: bool, following: str | None) -> dict[str, Any]:
    report = outcome.report
    return {
        "mode": mode,
        "changed": changed,
        "lsn": outcome.lsn,
        "keys": outcome.keys,
        "checkpoint_lsn": report.checkpoint_lsn,
        "records": report.records,
        "damaged_checkpoints": report.damaged_checkpoints,
        "cuts": [asdict(cut) for cut in report.cuts],
        "lost_keys": [{"after": _key(one.after), "before": _key(one.before)} for one in report.lost_keys],
        "new_manifest": report.new_manifest,
        "notes": report.notes,
        "next": following,
    }


def _key(key: bytes | None) -> Any:
    """A stored key as its owner wrote it; one of the engine's own as bytes."""
    return None if key is None else stored.named(key)


def _show(outcome: offline.Outcome, mode: str, changed: bool, again: str) -> None:
    report, console = outcome.report, output.out()
    kept = {
        "mode": mode,
        "state at LSN": f"{outcome.lsn:,}",
        "keys": f"{outcome.keys:,}",
        "from": f"the checkpoint of LSN {report.checkpoint_lsn:,}"
        if report.checkpoint_lsn
        else "the log alone",
        "and of the log": f"{report.records:,} commits",
    }
    console.print(output.facts(kept, title="kept" if changed else "would be kept"))
    if report.cuts or report.lost_keys:
        console.print(_lost(report, changed))
    for note in (*report.damaged_checkpoints, *report.notes):
        click.echo(note)
    if not report.left_out:
        click.echo("nothing is damaged, nothing is lost")
    elif not _loses(report):
        click.echo("nothing is lost")
    if not changed:
        click.echo(f"Nothing was changed. To do it (make a copy of the directory first): {again}")


def _loses(report: RecoveryReport) -> bool:
    """Is anything left out that may have held data? A MANIFEST that is made anew held none."""
    return bool(report.lost_keys) or any(cut.file != "MANIFEST" for cut in report.cuts)


def _lost(report: RecoveryReport, changed: bool) -> Any:
    rows: list[tuple[object, ...]] = [
        (cut.file, f"{cut.offset:,}", output.size(cut.bytes), _lsns(cut.first_lsn, cut.last_lsn), cut.kind,
         cut.why, cut.quarantine)
        for cut in report.cuts
    ]  # fmt: skip
    rows += [
        ("checkpoints", "", "", "", "lost keys", f"after {_key(one.after)!r} before {_key(one.before)!r}", "")
        for one in report.lost_keys
    ]
    columns: list[str | tuple[str, str]] = ["file", ("offset", "right"), ("bytes", "right")]
    columns += ["LSNs", "kind", "why", "is kept in" if changed else "would be kept in"]
    return output.table(columns, rows, title="left out" if changed else "would be left out")


def _lsns(first: int, last: int) -> str:
    if not first:
        return "no commit"
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"
