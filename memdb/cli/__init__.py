"""The command line: the program `memdb`; docs/reference/cli.md is its contract.

Owns: what the program `memdb` takes, prints and returns. It goes through the public API of the package, but
for the dumps (`memdb.durability.dump`) and for what is said to an engine without becoming its client
(`memdb.actors.wire`) or run in its place (`memdb.actors.foreground`). Nothing in the package imports it.

Invariants:
- People get tables and progress bars; `--json` gives programs one JSON document (or one per line for streams)
  and nothing else on stdout.
- Errors go to stderr, one sentence and the next step, without a traceback. Exit codes: docs/reference/cli.md
  and `errors.EXIT_CODES`.
"""

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the program; never returns."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of directories and command lines need not be text. In JSON these are its own escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Imported here, so that the demo's readers and tests of single parts don't load the whole command line.
    from memdb.cli.program import main as program

    program(prog_name="memdb")
