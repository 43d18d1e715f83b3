"""The engines that memdb is measured beside: py-lmdb, redis-py with a redis-server of its own on a unix
socket, an empty ring.

Needs the extra `bench`; redis rows are left out, with a remark, where no redis-server is installed, ring
rows where no C compiler is.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported when a row needs them: the stress does without
    import lmdb
    import redis

MAP_BYTES = 4 << 30


@contextmanager
def lmdb_environment(directory: Path, *, sync: bool = False) -> Iterator[lmdb.Environment]:
    """py-lmdb as the figures ask for it: a writable map, no sync unless said."""
    import lmdb

    directory.mkdir(parents=True, exist_ok=True)
    options = {"sync": True} if sync else {"writemap": True, "sync": False, "metasync": False}
    environment = lmdb.open(str(directory), map_size=MAP_BYTES, max_spare_txns=64, **options)
    try:
        yield environment
    finally:
        environment.close()


def lmdb_put_many(environment: lmdb.Environment) -> Callable[[dict[bytes, bytes]], None]:
    """A function that puts all pairs in one transaction."""

    def put_many(pairs: dict[bytes, bytes]) -> None:
        with environment.begin(write=True) as transaction:
            for key, value in pairs.items():
                transaction.put(key, value)

    return put_many


def lmdb_put(environment: lmdb.Environment) -> Callable[[bytes, bytes], None]:
    """A function that puts one pair in a transaction of its own."""

    def put(key: bytes, value: bytes) -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(key, value)

    return put


@contextmanager
def redis_client(directory: Path) -> Iterator[redis.Redis | None]:
    """redis-py on a unix socket of a redis-server that writes nothing to disk; None where there is
    no server.
    """
    server = shutil.which("redis-server")
    if server is None:
        print("no redis-server on PATH: its rows are left out", file=sys.stderr)
        yield None
        return
    import redis

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "redis.sock"
    command = [
        server,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(directory),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "accept connections" in line:
                break
        client = redis.Redis(unix_socket_path=str(path))
        client.ping()
        yield client
        client.close()
    finally:
        process.terminate()
        process.communicate()


class EmptyRing:
    """A ring whose commits hold nothing: what group commit with the same fdatasync costs, without a
    store. C, called from Python.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._library = ctypes.CDLL(str(_compiled(file.parent)))
        self._library.ring_start.argtypes = [ctypes.c_int]
        self._library.ring_commit.argtypes = [ctypes.c_int]
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(self._fd, bytes(8 << 20))
        os.fsync(self._fd)
        self._library.ring_start(self._fd)

    def commit(self, client: int) -> None:
        """Returns when the record of this client (0 … 63, one thread each) is synced."""
        self._library.ring_commit(client)

    def close(self) -> None:
        """Ends the ring's thread."""
        self._library.ring_stop()
        os.close(self._fd)


def has_compiler() -> bool:
    """Is there a C compiler for the empty ring?"""
    return shutil.which(os.environ.get("CC", "cc")) is not None


def _compiled(directory: Path) -> Path:
    source, library = Path(__file__).with_name("empty_ring.c"), directory / "empty_ring.so"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O2",
            "-shared",
            "-fPIC",
            "-pthread",
            str(source),
            "-o",
            str(library),
        ],
        check=True,
    )
    return library
