"""Free space of file systems, and making sure that writes have reached the disk."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mock_device.lab.base.errors import DiskFullError, StepError

FULL = "the disk is full"
_FULL_BYTES = 16 << 20
"""A file system with less free space counts as full: everything that the lab writes is larger."""
_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT}
_libc = ctypes.CDLL(None, use_errno=True)


def free_bytes(folder: Path) -> int:
    """Bytes that this user can still write to the file system of ``folder``."""
    found = os.statvfs(folder)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize


def is_disk_full(error: BaseException) -> bool:
    """Whether the kernel refused a write because the disk is full or the user's quota is used up."""
    return isinstance(error, OSError) and error.errno in _FULL_ERRORS


def shortage(folder: Path) -> str:
    """Message that the file system of ``folder`` has no free space or inodes; empty if it has."""
    found = os.statvfs(folder)
    # Some file systems (btrfs) have no fixed number of inodes and report 0 of 0.
    if found.f_files and not found.f_favail:
        return f"{FULL}: no inode is free on the file system of {folder}"
    if (free := free_bytes(folder)) < _FULL_BYTES:
        return f"{FULL}: {mebibytes(free)} are free on the file system of {folder}"
    return ""


def mebibytes(size: int) -> str:
    """Format ``size``, in bytes, as MiB."""
    return f"{size >> 20} MiB"


def sync(descriptor: int) -> None:
    """Flush the file system of ``descriptor`` to its disk. OSError if any write failed since it was opened.

    Calls syncfs(2), which reports errors since Linux 5.8: some file systems
    notice only then that they have no space for data that they accepted.
    """
    if _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def explained_when_full(folder: Path, what: str) -> Iterator[None]:
    """Turn errors raised inside into DiskFullError if the disk of ``folder`` is full.

    Programs often report something else: QEMU reports "Input/output error" or stops its guest, and whatever waits for
    that guest times out.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (StepError, OSError) as error:
        full = shortage(folder)
        if full or is_disk_full(error):
            raise DiskFullError(f"{what}: {full or FULL}; free some space, see: lab cache\n  {error}") from error
        raise
