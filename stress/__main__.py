"""`python -m stress COMMAND`: the benchmarks, and the proof that nothing acknowledged is lost."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stress import bench
from stress.chaos import command as chaos
from stress.chaos import points
from stress.states import command as states


def _add(commands: Any, name: str, module: Any, text: str) -> None:
    parser = commands.add_parser(name, help=text)
    module.add_arguments(parser)
    parser.set_defaults(function=module.main)


def main() -> int:
    """Parses the command line and runs one of them."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_arguments(commands.add_parser("bench", help="the figures, each beside its peer in one run"))
    _add(commands, "chaos", chaos, "real processes are killed at random while an oracle watches")
    _add(commands, "points", points, "real processes are killed before and after every durable step")
    _add(commands, "states", states, "every crash state of recorded workloads, recovered and compared")
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
