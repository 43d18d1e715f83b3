"""concurrent.futures, and a loader of samples built like PyTorch's DataLoader, by each start method."""

from pathlib import Path

import pytest
from life.stage import PROGRAMS, Program, check_quiet, needs

pytestmark = pytest.mark.life


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_concurrent_futures(data: Path, tmp_path: Path, method: str) -> None:
    with Program.python(tmp_path / "run", str(PROGRAMS / "pools.py"), method, str(data)) as program:
        assert program.wait() == 0, program.stderr
        assert program.stdout == "ok\n"
        check_quiet(program.stderr)


@needs("numpy")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_of_samples(data: Path, tmp_path: Path, method: str) -> None:
    """numpy and multiprocessing: torch itself has no small wheel."""
    with Program.python(tmp_path / "run", str(PROGRAMS / "loader.py"), method, str(data)) as program:
        assert program.wait() == 0, program.stderr
        assert program.stdout == "ok\n"
        check_quiet(program.stderr)
