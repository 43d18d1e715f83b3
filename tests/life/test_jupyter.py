"""A real Jupyter kernel: a snapshot over cells, interrupts, a restart."""

from pathlib import Path

import pytest
from life.stage import PROGRAMS, Program, needs, package_path

pytestmark = [pytest.mark.life, needs("nbclient", "ipykernel")]


def test_a_notebook(data: Path, tmp_path: Path) -> None:
    environment = {**package_path(), "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython")}
    arguments = [str(PROGRAMS / "notebook.py"), str(data)]
    with Program.python(tmp_path / "run", *arguments, env=environment) as program:
        assert program.wait() == 0, program.stderr
        assert program.stdout == "ok\n"
        assert "memdb" not in program.stderr, program.stderr
