"""`python -m stress COMMAND`: the benchmarks, and the proof that nothing acknowledged is lost."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

from stress import bench, tiers
from stress.chaos import command as chaos
from stress.chaos import points
from stress.damage import command as damage
from stress.deaths import command as deaths
from stress.defects import command as defects
from stress.faults import command as faults
from stress.fuzz import command as fuzz
from stress.histories import command as histories
from stress.life import command as life
from stress.states import command as states

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "quick": (tiers, "a part of each of the below but life and bench, in five minutes"),
    "nightly": (tiers, "all of the below but bench, as far as it goes: more than an hour and a half"),
    "bench": (bench, "the figures, each beside its peer in one run"),
    "chaos": (chaos, "real processes are killed while an oracle watches"),
    "points": (points, "a kill before and after every durable step"),
    "states": (states, "every crash state of recorded workloads, recovered and compared"),
    "damage": (damage, "every way in which the files can be damaged"),
    "deaths": (deaths, "owners of slots and rings are killed and stopped"),
    "defects": (defects, "is every seeded defect caught, and by what?"),
    "faults": (faults, "every call of the file system fails, and what else may"),
    "fuzz": (fuzz, "hostile bytes in rings, frames, files and values"),
    "histories": (histories, "clients write down what they see, checkers judge it"),
    "life": (life, "hard cases of life: real programs, name spaces, signals"),
}


def make_parser() -> argparse.ArgumentParser:
    """Of all commands."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        of_command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        module.add_arguments(of_command)
        of_command.set_defaults(function=module.main)
    return parser


def main() -> int:
    """Parses the command line and runs one of them."""
    arguments = make_parser().parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
