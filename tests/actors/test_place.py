"""Where a database can lie, and where not."""

import os
from pathlib import Path

import pytest

from memdb import errors, filesystems, place
from memdb.options import parse

HANDLE = parse()[0]
CAREFUL = parse(create=False)[0]


def _look(directory: Path, handle: object = HANDLE) -> None:
    place.prepare(str(directory), handle)  # type: ignore[arg-type]
    fd = place.open_directory(str(directory))
    try:
        place.check_contents(str(directory), fd, handle)  # type: ignore[arg-type]
    finally:
        os.close(fd)


def test_a_missing_directory_is_made_private(tmp_path: Path) -> None:
    _look(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_create_false(tmp_path: Path) -> None:
    with pytest.raises(errors.NotADatabase, match="does not exist"):
        _look(tmp_path / "missing", CAREFUL)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(errors.NotADatabase, match="no database"):
        _look(tmp_path, CAREFUL)


def test_a_directory_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(errors.NotADatabase, match=r"thesis\.tex"):
        _look(tmp_path)
    (tmp_path / "MANIFEST").write_text("")
    _look(tmp_path)  # whether that is a manifest, the engine judges


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.NotADatabase, match="no directory"):
        _look(tmp_path / "file")
    with pytest.raises(errors.NotADatabase):
        _look(tmp_path / "file" / "below")


def _table(kind: str, point: str, device: str = "0:99") -> str:
    root = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
    return f"{root}\n30 22 {device} / {point} rw - {kind} server:/export rw\n"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("nfs4", "NFS"),
        ("cifs", "CIFS/SMB"),
        ("9p", "9p"),
        ("fuse.sshfs", "FUSE"),
        ("ext4", None),
        ("tmpfs", None),
    ],
)
def test_kinds_of_file_systems(tmp_path: Path, kind: str, name: str | None) -> None:
    assert filesystems.unreliable_kind(str(tmp_path), _table(kind, str(tmp_path))) == name


def test_the_device_number_decides_before_the_mount_point(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    table = _table("nfs", "/elsewhere", f"{os.major(device)}:{os.minor(device)}")
    assert filesystems.unreliable_kind(str(tmp_path), table) == "NFS"


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    (tmp_path / "my files").mkdir()
    table = _table("nfs", f"{tmp_path}/my\\040files")
    assert filesystems.unreliable_kind(str(tmp_path / "my files"), table) == "NFS"


def test_a_network_file_system_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "unreliable_kind", lambda path: "NFS")
    with pytest.raises(errors.UnsupportedFilesystem, match="allow_network_fs"):
        _look(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    _look(tmp_path / "data", parse(allow_network_fs=True)[0])
