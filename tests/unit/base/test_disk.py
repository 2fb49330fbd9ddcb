"""Free space, and errors of full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mock_device.lab.base import disk

MIB = 1 << 20


def file_system(
    monkeypatch: pytest.MonkeyPatch, *, free: int, available: int, inodes: int = 100, left: int = 10
) -> None:
    """Make every file system report these free bytes, for root and other users, and inodes."""
    found = SimpleNamespace(f_bfree=free // 4096, f_bavail=available // 4096, f_frsize=4096)
    found.f_files, found.f_favail = inodes, left
    monkeypatch.setattr(os, "statvfs", lambda _: found)


@pytest.mark.parametrize(("user", "expected"), [(0, 100 * MIB), (1000, 60 * MIB)])
def test_reserved_blocks_are_only_free_for_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, expected: int
) -> None:
    file_system(monkeypatch, free=100 * MIB, available=60 * MIB)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert disk.free_bytes(tmp_path) == expected


@pytest.mark.parametrize(
    ("free", "inodes", "left", "message"),
    [
        (16 * MIB, 100, 10, ""),
        (15 * MIB, 100, 10, "the disk is full: 15 MiB are free on the file system of /some"),
        (500 * MIB, 100, 0, "the disk is full: no inode is free on the file system of /some"),
        # btrfs does not count inodes.
        (500 * MIB, 0, 0, ""),
    ],
)
def test_shortage_of_bytes_and_inodes_is_reported(
    monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, left: int, message: str
) -> None:
    file_system(monkeypatch, free=free, available=free, inodes=inodes, left=left)
    assert disk.shortage(Path("/some")) == message


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("No space left on device"), False),
    ],
)
def test_errors_of_a_full_disk_are_recognised(error: Exception, full: bool) -> None:
    assert disk.is_disk_full(error) == full


def test_sync_reports_errors(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    disk.sync(folder)
    os.close(folder)
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.sync(folder)
