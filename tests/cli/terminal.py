"""A program on a pseudo-terminal: typed to and read from, with an end to every wait."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

from program import COMMAND, environment

_SECONDS = 60.0
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """`memdb` with a terminal of its own, which is also its controlling one: Ctrl-C is a signal.

    >>> with Terminal("shell", "data", cwd=tmp_path) as terminal:
    ...     terminal.wait_for("> ")
    ...     terminal.type("exit\\n")
    """

    def __init__(self, *arguments: str, cwd: Path, **variables: str) -> None:
        self.fd, theirs = pty.openpty()
        self.theirs = os.dup(theirs)  # keeps what was printed readable after the program's end
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd,
            env={**environment(), "TERM": "xterm", "LINES": "40", **variables},
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - no thread of the tests holds a lock that it needs
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def type(self, text: str) -> None:
        """Sends keys."""
        os.write(self.fd, text.encode())

    def interrupt(self, text: str) -> None:
        """Ctrl-C until `text` comes: readline loses a signal between its prompt and its `select`."""
        deadline = time.monotonic() + _SECONDS
        self.type("\x03")
        while text.encode() not in _CONTROL.sub(b"", self.seen):
            if select.select([self.fd], [], [], 2.0)[0]:
                self._read(deadline, f"{text!r} never came")
            else:
                assert time.monotonic() < deadline, f"{text!r} never came; there is {self.seen!r}"
                self.type("\x03")
        self.wait_for(text)

    def wait_for(self, text: str) -> bytes:
        """Reads until `text` comes; what came since the last wait, without the terminal's own codes."""
        wanted = text.encode()
        deadline = time.monotonic() + _SECONDS
        while wanted not in (plain := _CONTROL.sub(b"", self.seen)):
            self._read(deadline, f"{text!r} never came")
        end = plain.index(wanted) + len(wanted)
        self.seen = plain[end:]
        return plain[:end]

    def _read(self, deadline: float, why: str) -> None:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([self.fd], [], [], left)[0], f"{why}; there is {self.seen!r}"
        self.seen += os.read(self.fd, 65536)

    def end(self) -> int:
        """Waits for the end of the program; its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; there is {self.seen!r}"
            if select.select([self.fd], [], [], 0.02)[0]:
                self.seen += os.read(self.fd, 65536)
        return self.process.returncode

    def is_canonical(self) -> bool:
        """Is the terminal in the mode in which a shell expects it?"""
        return bool(termios.tcgetattr(self.fd)[3] & termios.ICANON)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=_SECONDS)
        os.close(self.fd)
        os.close(self.theirs)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
