"""`memdb doctor` and `memdb gc`: is the machine fit, and is it tidy."""

from __future__ import annotations

import os

import click

from memdb import options as engine_options
from memdb.cli import checks, errors, leftovers, output
from memdb.cli.asking import Engine, open_home
from memdb.errors import Error

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=str))
@click.option(
    "--max-memory", metavar="SIZE",
    help="As the database is, or will be, opened with: 2GiB. The engine's if one runs.",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def doctor(directory: str | None, max_memory: str | None, json_: bool) -> None:
    """Check this machine, and DIRECTORY if given, for what keeps memdb from working well: shared memory,
    control groups, limits, kernel, file system, disk, leftovers, clock. Changes nothing and starts no
    engine. Exit code 1 if there is a problem.
    """
    with errors.reported():
        subject = checks.Subject(directory, _max_memory(directory, max_memory))
        findings = list(checks.examine(subject))
        problems = [one for one in findings if one.verdict == "problem"]
        if json_:
            output.print_json(
                {"ok": not problems, "directory": directory, "checks": [one.to_dict() for one in findings]}
            )
        else:
            _print(findings)
        if problems:
            raise SystemExit(errors.NO)


def _max_memory(directory: str | None, given: str | None) -> int:
    option = engine_options.OPTIONS["max_memory"]
    if given is not None:
        return int(option.parse("max_memory", int(given) if given.isdigit() else given))  # type: ignore[call-overload, no-any-return]
    if directory is not None and os.path.isdir(directory):
        try:
            with Engine(directory) as engine:
                answer = engine.ask("info", 5.0)
                if answer is not None:
                    return int(answer["info"]["options"]["max_memory"])
        except (Error, OSError):  # no database yet, or an engine that does not answer: a finding
            pass
    return int(option.parse("max_memory", option.default))  # type: ignore[call-overload, no-any-return]


def _print(findings: list[checks.Finding]) -> None:
    rows = []
    for one in findings:
        text = one.text if one.advice is None else f"{one.text}\n→ {one.advice}"
        rows.append((one.check, one.verdict, text))
    output.out().print(output.verdicts(rows, _STYLES))
    counts = {verdict: sum(one.verdict == verdict for one in findings) for verdict in _STYLES}
    found = (output.plural(counts[verdict], verdict) for verdict in ("warning", "problem"))
    click.echo(", ".join([f"{counts['ok']} ok", *found]))


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=str))
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def gc(directory: str | None, dry_run: bool, json_: bool) -> None:
    """Remove what dead engines of this user have left: homes of memory-only databases, segments that were
    never used, and, in DIRECTORY if given, the stale socket and half-written files. What belongs to a
    living engine, and whatever can hold data, is never touched.
    """
    with errors.reported():
        if directory is not None:
            os.close(open_home(directory))
        found = list(leftovers.collect(directory, remove=not dry_run))
        if json_:
            output.print_json({"dry_run": dry_run, "leftovers": [one.to_dict() for one in found]})
            return
        for one in found:
            gone = "removed" if one.removed else "would remove" if one.stale else "kept"
            click.echo(f"{gone} {one.kind} {one.path} ({output.size(one.bytes)}): {one.why}")
        if not found:
            click.echo("nothing to remove")
