"""The reaper: learns from the kernel which clients have died, and later has their stored outcomes forgotten.

Owns: the pidfds of the clients, and the ten minutes for which the outcomes of a client that has gone are
kept (rule C2).

Invariants:

* A client is dead when its pidfd says so, and by nothing else.
* Two threads, both parked: one in epoll on the pidfds, one on the mailbox; the latter wakes without a
  message only when outcomes are due to be forgotten.
"""

import heapq
import logging
import os
import select
import signal
import threading
import time
from typing import Final

from memdb.actors.processes import EXIT_ORPHANED, Post, call_at_death

__all__ = ["OUTCOMES_KEPT", "main"]

log = logging.getLogger("memdb.engine")

OUTCOMES_KEPT: Final = 600.0
"""Seconds for which the outcomes of a client's commits can be asked for after it has gone."""


class _Reaper:
    def __init__(self, post: Post) -> None:
        self._post = post
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._client_of: dict[int, bytes] = {}
        self._pidfd_of: dict[bytes, int] = {}
        self._due: list[tuple[float, bytes]] = []

    def watch_pidfds(self) -> None:
        """Reports each death once; runs in its own thread."""
        while True:
            for fd, _ in self._epoll.poll():
                with self._lock:
                    client = self._client_of.get(fd)
                    if client is not None:
                        self._drop(client)
                if client is not None:
                    self._post.send("dead", client=client)

    def _drop(self, client: bytes) -> None:
        fd = self._pidfd_of.pop(client, None)
        if fd is not None:
            del self._client_of[fd]
            self._epoll.unregister(fd)
            os.close(fd)

    def serve(self) -> None:
        """Takes messages until the supervisor says stop."""
        while True:
            for message, fds in self._post.inbox.receive(self._time_left()):
                op, client = message["op"], message.get("client", b"")
                if op == "stop":
                    return
                if op == "watch":
                    with self._lock:
                        self._drop(client)
                        self._client_of[fds[0]], self._pidfd_of[client] = client, fds[0]
                        self._epoll.register(fds[0], select.EPOLLIN)
                elif op == "unwatch":
                    with self._lock:
                        self._drop(client)
                elif op == "gone":
                    heapq.heappush(self._due, (message["when"] + OUTCOMES_KEPT, client))
            self._forget_due()

    def _time_left(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _forget_due(self) -> None:
        due: list[bytes] = []
        while self._due and self._due[0][0] <= time.monotonic():
            due.append(heapq.heappop(self._due)[1])
        if due:
            self._post.send("forget", clients=due)


def main(post: Post) -> int:
    """The process's body."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call_at_death(post.supervisor, lambda: os._exit(EXIT_ORPHANED))
    reaper = _Reaper(post)
    threading.Thread(target=reaper.watch_pidfds, name="pidfds", daemon=True).start()
    post.send("ready")
    reaper.serve()
    return 0
