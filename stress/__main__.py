"""`python -m stress bench [ROWS…]` and `python -m stress run --seconds N`."""

from __future__ import annotations

import argparse
import sys

from stress import bench, run
from stress.life import command as life


def main() -> int:
    """Parses the command line and runs one of the two."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_arguments(commands.add_parser("bench", help="the figures, each beside its peer in one run"))
    run.add_arguments(
        commands.add_parser("run", help="clients and actors are killed while an outside oracle watches")
    )
    life.add_arguments(commands.add_parser("life", help="real programs, namespaces, stopped processes"))
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
