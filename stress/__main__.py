"""`python -m stress bench [ROWS…]` and `python -m stress run --seconds N`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stress import bench, run
from stress.faults import command as faults
from stress.states import command as states


def _add(commands: Any, name: str, module: Any, text: str) -> None:
    parser = commands.add_parser(name, help=text)
    module.add_arguments(parser)
    parser.set_defaults(function=module.main)


def main() -> int:
    """Parses the command line and runs one of the two."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_arguments(commands.add_parser("bench", help="the figures, each beside its peer in one run"))
    run.add_arguments(
        commands.add_parser("run", help="clients and actors are killed while an outside oracle watches")
    )
    _add(commands, "states", states, "every crash state of recorded workloads, recovered and compared")
    _add(commands, "faults", faults, "the file system, memory and descriptors refuse, at every call")
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
