"""Where a database can lie: making the directory, refusing places, the private homes of memory-only ones.

Owns: the names that belong to a database, and the judgement of a directory before any engine sees it.
Whether what it holds is whole, the engine says.
"""

import contextlib
import os
import re
import secrets
import tempfile
import time
from typing import Final

from memdb import errors, filesystems
from memdb.actors.directory import Home
from memdb.actors.locks import GROUP_BYTE, FileLock
from memdb.options import HandleOptions

__all__ = [
    "check_contents",
    "is_memory_home",
    "make_memory_home",
    "memory_ended",
    "open_directory",
    "prepare",
    "runtime_base",
]

_OWN_NAMES: Final = frozenset(
    {"MANIFEST", "MANIFEST.tmp", "GROUP", "LOCK", "GENERATION", "engine.sock", "engine.log"}
    | {"wal", "checkpoints", "quarantine", "backups", "lost+found"}
)
_MEMORY_HOME: Final = re.compile(r"memdb-\d+-[0-9a-f]{16}")
_STARTING: Final = 60.0  # seconds for which a memory home without a group may still be getting one


def prepare(place: str, handle: HandleOptions) -> None:
    """Makes the directory where there is none, and refuses places where a database can't be."""
    if not os.path.lexists(place):
        if is_memory_home(place):  # its group has removed it, and another can't bring its data back
            raise memory_ended(place)
        if not handle.create:
            raise errors.NotADatabase(
                f"{place} does not exist, and create=False forbids to make it", path=place
            )
        _refuse_network(_existing_parent(place), handle)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.mkdir(place, 0o700)
        except FileExistsError:  # another opener was faster, or a parent is a file
            if not os.path.isdir(place):
                raise errors.NotADatabase(
                    f"{place} can't be made: a parent is no directory", path=place
                ) from None
        except OSError as error:
            raise errors.NotADatabase(
                f"{place} can't be made: {error.strerror}{_whose(_existing_parent(place), error)}", path=place
            ) from error
        _sync_directory(os.path.dirname(place))
    elif not os.path.isdir(place):
        raise errors.NotADatabase(
            f"{place} is no directory; a database is a directory of its own", path=place
        )
    _refuse_network(place, handle)


def _existing_parent(place: str) -> str:
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    return place


def _refuse_network(place: str, handle: HandleOptions) -> None:
    kind = filesystems.unreliable_kind(place)
    if kind is not None and not handle.allow_network_fs:
        raise errors.UnsupportedFilesystem(
            f"{place} lies on {kind}: its locks, syncs and shared mappings can't be relied on. Use a local "
            "disk, or pass allow_network_fs=True if only this one machine opens it and you accept the risk",
            path=place,
        )


def _sync_directory(place: str) -> None:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _whose(place: str, error: OSError) -> str:
    """Who may, where this user may not; "" for other errors."""
    if not isinstance(error, PermissionError):
        return ""
    try:
        found = os.stat(place)
    except OSError:  # one of its parents can't be entered
        return f"; user {os.geteuid()} may not enter a directory above it"
    return (
        f"; {place} belongs to user {found.st_uid} with mode {found.st_mode & 0o7777:04o}, and this process "
        f"is user {os.geteuid()}: run as that user (a database is one user's), or choose another place"
    )


def open_directory(place: str) -> int:
    """A descriptor of the directory; the caller's to close. Raises NotADatabase."""
    try:
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.NotADatabase(
            f"{place} can't be opened: {error.strerror}{_whose(place, error)}", path=place
        ) from error


def check_contents(place: str, fd: int, handle: HandleOptions) -> None:
    """Raises NotADatabase for a directory of other things, and for one without a database if create=False."""
    names = set(os.listdir(fd))
    if "MANIFEST" in names:
        return
    foreign = sorted(names - _OWN_NAMES)
    if foreign:
        shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise errors.NotADatabase(
            f"{place} holds other things ({shown}) and no MANIFEST: give the database a directory of its own",
            path=place,
        )
    if not handle.create and not {"wal", "engine.sock"} & names:
        raise errors.NotADatabase(
            f"{place} holds no database, and create=False forbids to make one", path=place
        )


# -------------------------------------------------------------------------------------- memory-only homes


def runtime_base() -> str:
    """The directory in which this user's memory-only databases have their homes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return runtime if runtime and os.access(runtime, os.W_OK | os.X_OK) else tempfile.gettempdir()


def make_memory_home() -> str:
    """A private directory of a random name; what dead groups left of such ones is removed on the way."""
    base = runtime_base()
    _remove_dead_homes(base)
    home = os.path.join(base, f"memdb-{os.geteuid()}-{secrets.token_hex(8)}")
    os.mkdir(home, 0o700)
    return home


def is_memory_home(path: str) -> bool:
    """Was the directory made by :func:`make_memory_home`? Its name tells."""
    return _MEMORY_HOME.fullmatch(os.path.basename(os.path.realpath(path))) is not None


def memory_ended(home: str) -> errors.EngineDied:
    """The error where the group of a memory-only database has gone."""
    return errors.EngineDied(
        f"the engine of the memory-only database {home} has ended, and its data with it; open a new one"
    )


def _remove_dead_homes(base: str) -> None:
    for name in os.listdir(base):
        place = os.path.join(base, name)
        if not name.startswith(f"memdb-{os.geteuid()}-"):
            continue
        try:
            home = Home(place)
        except OSError:  # removed meanwhile, or not ours
            continue
        with contextlib.ExitStack() as stack:
            stack.callback(home.close)
            if time.time() - os.fstat(home.fd).st_mtime < _STARTING or not is_memory_home(place):
                continue  # its group may be starting right now
            lock = stack.enter_context(FileLock(home.fd, "GROUP", GROUP_BYTE))
            if lock.acquire(wait=False):
                home.remove()
