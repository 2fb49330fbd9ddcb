"""Signals an eventfd of somebody else without ever waiting for it.

write(2) on a blocking eventfd waits while its counter is full. O_NONBLOCK is no
help, as it belongs to the open file that the client shares and can change back;
an eventfd cannot be opened again by /proc/self/fd (ENXIO), and knows no RWF_NOWAIT
(EOPNOTSUPP). The kernel itself signals one without waiting when an asynchronous
read is complete (io_submit(2), IOCB_FLAG_RESFD), as it does for VFIO's interrupts.
The read is one of no bytes from /dev/null: complete when io_submit returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from functools import cache
from pathlib import Path

_EVENTFD = "anon_inode:[eventfd]"
_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
"""Numbers of io_setup, io_submit and io_getevents: the C library has no functions for them."""
_IOCB = struct.Struct("=QIiHhIQQqQII")
"""struct iocb of linux/aio_abi.h: data, key, rw_flags, opcode, priority, fd, buffer, bytes, offset, 0, flags, resfd."""
_IOCB_FLAG_RESFD = 1
_EVENT_BYTES = 32  # struct io_event
_NO_WAIT = struct.pack("=qq", 0, 0)  # struct timespec

_libc = ctypes.CDLL(None, use_errno=True)


def is_eventfd(fd: int) -> bool:
    """The descriptor is an eventfd. Asks the kernel, not the owner of the file."""
    return str(Path(f"/proc/self/fd/{fd}").readlink()) == _EVENTFD


def signal(fd: int) -> None:
    """Add 1 to the counter of eventfd ``fd``, which stops at 2^64-1. Raises OSError (EINVAL: no eventfd)."""
    _, submit, get_events = _numbers()
    context = _context()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read = ctypes.create_string_buffer(
            _IOCB.pack(0, 0, 0, 0, 0, null, 0, 0, 0, 0, _IOCB_FLAG_RESFD, fd), _IOCB.size
        )
        pointer = ctypes.c_void_p(ctypes.addressof(read))
        event = ctypes.create_string_buffer(_EVENT_BYTES)
        _call(submit, context, ctypes.c_long(1), ctypes.byref(pointer))
        _call(get_events, context, ctypes.c_long(0), ctypes.c_long(1), event, _NO_WAIT)
    finally:
        os.close(null)


@cache
def _context() -> ctypes.c_ulong:
    """The process's context for asynchronous reads, made when it is first needed; one read at a time is under way."""
    context = ctypes.c_ulong(0)
    _call(_numbers()[0], ctypes.c_uint(1), ctypes.byref(context))
    return context


def _numbers() -> tuple[int, int, int]:
    try:
        return _NUMBERS[platform.machine()]
    except KeyError:
        raise OSError(errno.EOPNOTSUPP, f"no system call numbers for {platform.machine()}") from None


def _call(number: int, *arguments: object) -> None:
    """A system call. Raises OSError."""
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
