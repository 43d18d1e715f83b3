"""`python -m stress bench [ROWS…]` and `python -m stress run --seconds N`."""

from __future__ import annotations

import argparse
import sys

from stress import bench, run
from stress.deaths import command as deaths
from stress.defects import command as defects


def main() -> int:
    """Parses the command line and runs one of the two."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bench.add_arguments(commands.add_parser("bench", help="the figures, each beside its peer in one run"))
    run.add_arguments(
        commands.add_parser("run", help="clients and actors are killed while an outside oracle watches")
    )
    defects.add_arguments(commands.add_parser("defects", help="is every seeded defect caught, and by what?"))
    deaths.add_arguments(
        commands.add_parser("deaths", help="owners of slots and rings are killed and stopped")
    )
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
