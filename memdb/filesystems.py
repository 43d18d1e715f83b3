"""Which file system a path lies on, as far as it decides whether a database can lie there.

The kernel's mount table is read, by device number first and by the longest mount point where that finds
nothing (btrfs subvolumes have device numbers of their own). No import of ctypes, and no call that could
hang on a dead server.
"""

import os
import re
from typing import Final

__all__ = ["kind_of", "unreliable_kind"]

_NETWORK: Final = {
    "nfs": "NFS",
    "nfs4": "NFS",
    "cifs": "CIFS/SMB",
    "smb3": "CIFS/SMB",
    "smbfs": "CIFS/SMB",
    "9p": "9p",
    "fuse": "FUSE",
    "virtiofs": "virtiofs",
    "afs": "AFS",
    "ceph": "Ceph",
    "lustre": "Lustre",
    "gfs2": "GFS2",
    "ocfs2": "OCFS2",
    "vboxsf": "a VirtualBox shared folder",
}


def unreliable_kind(path: str, mounts: str | None = None) -> str | None:
    """The name of the network or user-space file system that ``path`` lies on, or None for a local one.

    ``mounts``: the text of /proc/self/mountinfo, read if None.
    """
    kind = kind_of(path, mounts)
    return _NETWORK.get("fuse" if kind.startswith("fuse.") else kind)


def kind_of(path: str, mounts: str | None = None) -> str:
    """The type of the file system as the mount table names it; "" if the table does not tell."""
    if mounts is None:
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
                mounts = table.read()
        except OSError:
            return ""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    real = os.path.realpath(path)
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:]:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        rank = len(point) + (1 << 20 if fields[2] == number else 0)
        if (inside or fields[2] == number) and rank > best:
            best, found = rank, fields[fields.index("-", 6) + 1]
    return found
