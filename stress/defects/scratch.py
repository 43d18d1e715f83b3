"""The scratch copy: a checkout that mutations may spoil, kept between runs so that builds are incremental.

Owns: build/defects below the checkout (ignored by git): the copy and its builds, under a lock; and the
kernel that lies in the copy at any time.

Invariants:

* The copy is brought to the checkout's bytes before a run, and after each mutation, whatever ended the last
  one.
* A file whose bytes change gets a new time of change and loses its compiled form: no build and no interpreter
  can take the old one for it.
* The kernel beside the copy's sources was built from them, or it is the environment's, which was built from
  the checkout's; a mutation of the kernel's sources has no kernel until `kernel()` has built it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.defects.defect import Defect, mutated

__all__ = ["BuildFailed", "Scratch"]

_KERNEL = Path("memdb/shm")
_CFLAGS = "-O0 -U_FORTIFY_SOURCE"
"""For mutations of the kernel, behind meson's own: the binding takes minutes to optimize."""
_LEFT_OUT = {"build", "dist", "__pycache__", ".git", ".venv"}


class BuildFailed(Exception):
    """The kernel of the copy could not be built: that is no catch."""


class Scratch:
    """See the module. ``say``: where progress goes."""

    def __init__(self, checkout: Path, say: Callable[[str], None]) -> None:
        self._checkout, self._say = checkout, say
        self.home = checkout / "build" / "defects"
        self.root = self.home / "checkout"
        self._pristine_kernel: Path | None = None
        self._kernel_of = ""  # digest of the sources that the kernel in the copy was built from

    @contextmanager
    def in_use(self) -> Iterator[Scratch]:
        """Holds the copy, alone, and brings it up to date."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.home / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh()
            try:
                yield self
            finally:
                shutil.rmtree(self.home / "tmp", ignore_errors=True)

    # ---- files ----

    def _refresh(self) -> None:
        wanted = _files(self._checkout)
        for path in _files(self.root) - wanted:
            (self.root / path).unlink()
        for path in sorted(wanted):
            source = self._checkout / path
            self._put(path, source.read_bytes())
            shutil.copymode(source, self.root / path)
        self._take_kernel()

    def _put(self, path: str, data: bytes) -> None:
        target = self.root / path
        if target.is_file() and target.read_bytes() == data:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        for compiled in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
            compiled.unlink()

    @contextmanager
    def with_defect(self, defect: Defect) -> Iterator[None]:
        """The copy has the defect. Stale; SyntaxError: it is no program any more."""
        texts = {path: (self._checkout / path).read_text(encoding="utf-8") for path in defect.files}
        after = mutated(defect, texts)
        for path, text in after.items():
            if path.endswith(".py"):
                compile(text, path, "exec")
        try:
            for path, text in after.items():
                self._put(path, text.encode())
            yield
        finally:
            for path, text in texts.items():
                self._put(path, text.encode())

    # ---- the kernel ----

    def _sources(self) -> str:
        digest = hashlib.sha256()
        for path in sorted((self.root / _KERNEL).glob("*")):
            if path.suffix in (".c", ".h", ".pxi", ".pyx"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()

    def _take_kernel(self) -> None:
        """The kernel that this very process uses is the one of the unspoilt copy."""
        from memdb.shm import _kernel

        built = Path(_kernel.__file__)
        for old in (self.root / _KERNEL).glob("_kernel*.so"):
            old.unlink()
        self._pristine_kernel = self.home / built.name
        shutil.copy2(built, self._pristine_kernel)
        shutil.copy2(built, self.root / _KERNEL / built.name)
        self._pristine_sources = self._kernel_of = self._sources()

    def kernel(self) -> None:
        """Sees to it that the kernel in the copy is that of the copy's sources. BuildFailed."""
        wanted = self._sources()
        if wanted == self._kernel_of:
            return
        assert self._pristine_kernel is not None
        if wanted == self._pristine_sources:
            beside = self.root / _KERNEL / f".new.{self._pristine_kernel.name}"
            shutil.copy2(self._pristine_kernel, beside)
            os.replace(beside, self.root / _KERNEL / self._pristine_kernel.name)
        else:
            self._say("building the kernel of the copy")
            done = subprocess.run(
                [str(self.root / "dev" / "kernel")], cwd=self.root, check=False, text=True,
                errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHON": sys.executable, "CFLAGS": _CFLAGS},
            )  # fmt: skip
            if done.returncode != 0:
                raise BuildFailed(done.stdout)
        self._kernel_of = wanted


def _files(root: Path) -> set[str]:
    """The files of a checkout: those that git knows or would, or where there is no git, all that is not
    made."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, check=True, stdout=subprocess.PIPE,
        ).stdout  # fmt: skip
        return {name for name in os.fsdecode(listed).split("\0") if name and (root / name).is_file()}
    found = set()
    for directory, names, files in os.walk(root):
        names[:] = [
            one for one in names if one not in _LEFT_OUT and not one.endswith(("_cache", ".egg-info"))
        ]
        found |= {
            os.path.relpath(os.path.join(directory, one), root)
            for one in files
            if not one.endswith((".pyc", ".so", ".o", ".a"))
        }
    return found
