"""Files of a client's memory, kept open while ranges of them are mapped."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass

from mock_accel_server.protocol import RefusedError

_MOST_FILES = 64
"""Different files of a client that jobs can use, each by a file descriptor of the server.

QEMU has one for each NUMA node, and one for each other device's window."""

_Same = tuple[int, int, bool]


@dataclass
class _File:
    fd: int
    same: _Same
    ranges: int = 0


class GuestFiles:
    """Open files of one client by number, from 1. Ranges of the same file share a descriptor.

    A file is opened again: the client cannot change the flags of that open file, with
    O_APPEND for example, which would direct writes elsewhere. Reads and writes by
    descriptor fail where a mapping would raise SIGBUS, for a truncated file for example.
    """

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._numbers: dict[_Same, int] = {}

    def use(self, fd: int, writeable: bool) -> int:
        """The number of the file of ``fd`` for one more range; 0 if jobs cannot use it: its kind, or too many files.

        Too many are no error: QEMU maps the windows of all other devices, and with a hundred devices most jobs need
        none of them. Raises RefusedError with the error of opening a file.
        """
        if not _in_memory(fd):
            return 0
        found = os.fstat(fd)
        same = found.st_dev, found.st_ino, writeable
        number = self._numbers.get(same)
        if number is None:
            if len(self._files) >= _MOST_FILES:
                return 0
            try:
                opened = os.open(f"/proc/self/fd/{fd}", (os.O_RDWR if writeable else os.O_RDONLY) | os.O_CLOEXEC)
            except PermissionError:  # a file of another user
                return 0
            except OSError as error:
                raise RefusedError(f"a file cannot be opened: {error.strerror}", error.errno or errno.EIO) from error
            number = next(free for free in range(1, _MOST_FILES + 1) if free not in self._files)
            self._files[number] = _File(opened, same)
            self._numbers[same] = number
        self._files[number].ranges += 1
        return number

    def fd(self, number: int) -> int:
        """Descriptor of a file in use."""
        return self._files[number].fd

    def release(self, number: int) -> list[int]:
        """One range less; returns the descriptor to close if it was the last one."""
        file = self._files[number]
        file.ranges -= 1
        if file.ranges:
            return []
        del self._files[number], self._numbers[file.same]
        return [file.fd]

    def clear(self) -> list[int]:
        """Forget all files; returns descriptors to close."""
        fds = [file.fd for file in self._files.values()]
        self._files.clear()
        self._numbers.clear()
        return fds


def _in_memory(fd: int) -> bool:
    """Whether it is a file of tmpfs or hugetlbfs, a memfd for example: only these have seals. Never waits.

    Only their reads and writes depend on no other process.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return True
