"""Check whether a client's file can be mapped as requested. Asks the kernel, never the owner of the file."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from mock_accel_server import protocol
from mock_accel_server.protocol import DmaFlag, RefusedError

_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_TYPE_AND_SIZE = 0x1 | 0x200
_STATX = struct.Struct("=IIQIIIHHQQ")
"""Beginning of struct statx of linux/stat.h: the 7th field is the mode, the last one the size."""
_STATX_BYTES = 256
_O_PATH = 0o10000000
_WRITE_SEALS = fcntl.F_SEAL_WRITE | 0x10  # and F_SEAL_FUTURE_WRITE

_libc = ctypes.CDLL(None, use_errno=True)


def check_mappable(fd: int, offset: int, size: int, flags: int) -> None:
    """Check that ``size`` bytes from ``offset`` can be mapped, shared, with ``DmaFlag`` ``flags``.

    Raises RefusedError: EACCES if the descriptor does not allow it, EINVAL if the file
    is too short or not a regular file (memfd and files of hugetlbfs and tmpfs are).
    Devices are refused, too, because only their drivers know whether they can be mapped.
    """
    mode, length = _mode_and_size(fd)
    access = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not stat.S_ISREG(mode) or access & _O_PATH:
        raise RefusedError(f"expected a regular file to map, found mode {mode:#o}, flags {access:#o}")
    if access & os.O_ACCMODE == os.O_WRONLY:
        raise RefusedError("a file that is open for writing only cannot be mapped", errno.EACCES)
    if flags & DmaFlag.WRITEABLE and (access & os.O_ACCMODE == os.O_RDONLY or _seals(fd) & _WRITE_SEALS):
        raise RefusedError("a writeable map needs a writeable file", errno.EACCES)
    if offset % protocol.PAGE_SIZE:
        raise RefusedError(f"offset {offset:#x} in the file is not a multiple of {protocol.PAGE_SIZE}")
    if offset + size > -(-length // protocol.PAGE_SIZE) * protocol.PAGE_SIZE:
        raise RefusedError(f"{size:#x} bytes from {offset:#x} exceed the file, which has {length:#x} bytes")


def _mode_and_size(fd: int) -> tuple[int, int]:
    """Like fstat(2), but never waits for the server of a network or FUSE file. Raises RefusedError."""
    found = ctypes.create_string_buffer(_STATX_BYTES)
    flags = ctypes.c_int(_AT_EMPTY_PATH | _AT_STATX_DONT_SYNC)
    if _libc.statx(ctypes.c_int(fd), b"", flags, ctypes.c_uint(_STATX_TYPE_AND_SIZE), found) < 0:
        raise RefusedError(f"statx of the file failed: {os.strerror(ctypes.get_errno())}")
    fields = _STATX.unpack_from(found)
    return fields[6], fields[9]


def _seals(fd: int) -> int:
    """Seals of a memfd; 0 for other files."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0
