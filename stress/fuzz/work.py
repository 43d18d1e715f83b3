"""One part of the fuzzer in a process of its own, whose end says what happened; and who watches it.

Invariant: the input of a case lies in a file before the case is run, so a crash or a hang is named with it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import mmap
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stress.fuzz.files import Checkpoints, Logs, Manifests
from stress.fuzz.messages import Frames, Parts
from stress.fuzz.mutate import Mutator
from stress.fuzz.stored import Keys, Values

PARTS = {
    "frames": Frames,
    "parts": Parts,
    "values": Values,
    "keys": Keys,
    "logs": Logs,
    "checkpoints": Checkpoints,
    "manifests": Manifests,
}
SECONDS_OF_A_CASE = 30
BYTES_OF_A_CASE = 512 << 20
"""What a process may take beyond what it has before the first case; no input has a hundredth of it."""
_ROOT = Path(__file__).resolve().parents[2]
_SLOT = 4 << 20
_HEAD = struct.Struct("<QQ")
_DISTINCT = 10


@dataclass
class Found:
    """What a part has come to. ``violations``: texts, each of another place."""

    cases: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def work(part: str, seed: int, seconds: float, first: int, only: int | None, place: Path) -> int:
    """The child: cases from ``first`` on (``only``: that one). Its last line is what it found, as JSON."""
    fuzzed, verdicts, wrong, number = PARTS[part](seed), Counter[str](), dict[str, str](), first
    logging.disable(logging.CRITICAL)  # what an engine says of each case
    with open(place / "case", "w+b") as file:
        file.truncate(_SLOT)
        slot = mmap.mmap(file.fileno(), _SLOT)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES_OF_A_CASE,) * 2)
    until, armed = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < until and len(wrong) < _DISTINCT:
        if now - armed > 1:  # a thread of its own ends the process, whatever this one is at
            faulthandler.dump_traceback_later(SECONDS_OF_A_CASE, exit=True)
            armed = now
            gc.collect()  # what errors keep is no leak
        number = number if only is None else only
        case = fuzzed.case(Mutator(random.Random(f"{seed}/{part}/{number}")))
        slot[: _HEAD.size + len(case.data)] = _HEAD.pack(number, len(case.data)) + case.data
        try:
            verdicts[case.run()] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is: that is the question
            where = "".join(traceback.format_exception(error))
            verdicts["WRONG"] += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            if kind not in wrong:
                (place / f"{part}-{number}").write_bytes(case.data)
                wrong[kind] = f"{part}, case {number}: {kind}: {error}\n{where}"
        number += 1
        if only is not None:
            break
    print(json.dumps([number - first, verdicts, list(wrong.values())]))
    return 0


def watch(part: str, seed: int, seconds: float, only: int | None, place: Path) -> Found:
    """Runs children until the time is over; one that crashes or hangs is followed by one behind its case."""
    found, first, until = Found(), 0, time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and len(found.violations) < _DISTINCT:
        (place / "case").unlink(missing_ok=True)
        words = f"-X faulthandler -m stress fuzz --part {part} --seed {seed} --seconds {left} --first {first}"
        command = [sys.executable, *words.split(), "--child", str(place)]
        command += [] if only is None else ["--case", str(only)]
        made = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=left + 120, check=False
        )
        if made.returncode == 0:
            cases, verdicts, violations = json.loads(made.stdout.splitlines()[-1])
            found.cases += cases
            found.verdicts.update(verdicts)
            found.violations += violations
            break
        number = _keep(part, place)
        name = (
            signal.Signals(-made.returncode).name if made.returncode < 0 else f"exit code {made.returncode}"
        )
        what = f"more than {SECONDS_OF_A_CASE} s" if "Timeout (" in made.stderr else name
        found.violations.append(f"{part}, case {number}: {what}\n{made.stderr[-3000:]}")
        found.verdicts["WRONG"] += 1
        found.cases += number + 1 - first
        first = number + 1
        if only is not None:
            break
    return found


def _keep(part: str, place: Path) -> int:
    """The input of the case that a child died of; its number."""
    slot = place / "case"
    data = slot.read_bytes() if slot.exists() else bytes(_HEAD.size)
    number, size = _HEAD.unpack_from(data)
    (place / f"{part}-{number}").write_bytes(data[_HEAD.size : _HEAD.size + size])
    return int(number)
