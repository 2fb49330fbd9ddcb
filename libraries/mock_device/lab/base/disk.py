"""Free space of file systems, and writes that have reached them."""

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
"""A file system with less is full: whatever the lab writes is larger."""
_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT}
_libc = ctypes.CDLL(None, use_errno=True)


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the file system of ``folder``."""
    found = os.statvfs(folder)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize


def says_full(error: BaseException) -> bool:
    """Whether the kernel refused a write because a disk, or what a user may take of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL_ERRORS


def shortage(folder: Path) -> str:
    """That the file system of ``folder`` is full, in words; empty when it is not. Inodes count, too."""
    found = os.statvfs(folder)
    # Some file systems (btrfs) have no number of inodes, and say 0 of 0.
    if found.f_files and not found.f_favail:
        return f"{FULL}: no inode is free on the file system of {folder}"
    if (free := free_bytes(folder)) < _FULL_BYTES:
        return f"{FULL}: {mebibytes(free)} are free on the file system of {folder}"
    return ""


def mebibytes(size: int) -> str:
    """``size`` in bytes, for people."""
    return f"{size >> 20} MiB"


def sync(descriptor: int) -> None:
    """Write everything of a file system to its disk; OSError if anything could not be since ``descriptor`` was opened.

    syncfs(2), which reports errors since Linux 5.8: some file systems notice
    only then that there is no room for what they had accepted.
    """
    if _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def explained_when_full(folder: Path, what: str) -> Iterator[None]:
    """Raise DiskFullError for what fails inside if the disk of ``folder`` is full.

    Programs often say something else: QEMU "Input/output error", or it stops its guest, for which others wait in vain.
    """
    try:
        yield
    except DiskFullError:
        raise
    except (StepError, OSError) as error:
        full = shortage(folder)
        if full or says_full(error):
            raise DiskFullError(f"{what}: {full or FULL}; free some space, see: lab cache\n  {error}") from error
        raise
