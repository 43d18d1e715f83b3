"""Workloads, the multi-process stress and the benchmarks: `python -m stress --help`, from the checkout. Not
part of the installed package.

Run from the checkout, Python looks for `memdb` there first. If no kernel was built in place (dev/kernel),
that copy can't be imported and the installed package is
what is meant: the checkout is then taken off the path. Modules of this package are found through the
package itself.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent

if not any((_ROOT / "memdb" / "shm").glob("_kernel*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

# What the harness shares with the tests: machines in memory, models, the shim.
sys.path.append(str(_ROOT / "tests"))
