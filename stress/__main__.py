"""`python -m stress COMMAND`: the benchmarks, and the proof that nothing acknowledged is lost."""

from __future__ import annotations

import argparse
import sys

from stress import bench
from stress.chaos import command as chaos
from stress.chaos import points
from stress.histories import command as histories


def main() -> int:
    """Parses the command line and runs one of them."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_arguments(commands.add_parser("bench", help="the figures, each beside its peer in one run"))
    chaos.add_arguments(
        commands.add_parser("chaos", help="real processes are killed while an oracle watches")
    )
    points.add_arguments(commands.add_parser("points", help="a kill before and after every durable step"))
    histories.add_arguments(
        commands.add_parser("histories", help="clients write down what they see, checkers judge it")
    )
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
