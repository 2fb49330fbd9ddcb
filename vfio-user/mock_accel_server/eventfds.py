"""Signal a client's eventfd without blocking.

write(2) on a blocking eventfd waits while its counter is full. O_NONBLOCK does not
help: it belongs to the open file, which the client shares and can change. An eventfd
cannot be reopened by /proc/self/fd (ENXIO) and does not support RWF_NOWAIT
(EOPNOTSUPP). But the kernel signals an eventfd without waiting when an asynchronous
read completes (io_submit(2), IOCB_FLAG_RESFD), as it does for VFIO's interrupts.
Here the read is zero bytes from /dev/null, which completes before io_submit returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from functools import cache
from pathlib import Path

_EVENTFD = "anon_inode:[eventfd]"
_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
"""System call numbers of io_setup, io_submit and io_getevents, for which the C library has no functions."""
_IOCB = struct.Struct("=QIiHhIQQqQII")
"""struct iocb of linux/aio_abi.h: data, key, rw_flags, opcode, priority, fd, buffer, bytes, offset, 0, flags, resfd."""
_IOCB_FLAG_RESFD = 1
_EVENT_BYTES = 32  # struct io_event
_NO_WAIT = struct.pack("=qq", 0, 0)  # struct timespec

_libc = ctypes.CDLL(None, use_errno=True)
_one_at_a_time = threading.Lock()


def is_eventfd(fd: int) -> bool:
    """Whether the descriptor is an eventfd. Asks the kernel, never the owner of the file."""
    return str(Path(f"/proc/self/fd/{fd}").readlink()) == _EVENTFD


def signal(fd: int) -> None:
    """Add 1 to the counter of eventfd ``fd``, which saturates at 2^64-1. Raises OSError (EINVAL: not an eventfd)."""
    _, submit, get_events = _numbers()
    with _one_at_a_time:
        context = _context()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read = ctypes.create_string_buffer(
            _IOCB.pack(0, 0, 0, 0, 0, null, 0, 0, 0, 0, _IOCB_FLAG_RESFD, fd), _IOCB.size
        )
        pointer = ctypes.c_void_p(ctypes.addressof(read))
        event = ctypes.create_string_buffer(_EVENT_BYTES)
        with _one_at_a_time:
            _call(submit, context, ctypes.c_long(1), ctypes.byref(pointer))
            _call(get_events, context, ctypes.c_long(0), ctypes.c_long(1), event, _NO_WAIT)
    finally:
        os.close(null)


@cache
def _context() -> ctypes.c_ulong:
    """The process's context for asynchronous reads, created on first use, for one read at a time."""
    context = ctypes.c_ulong(0)
    _call(_numbers()[0], ctypes.c_uint(1), ctypes.byref(context))
    return context


def _numbers() -> tuple[int, int, int]:
    machine = os.uname().machine
    try:
        return _NUMBERS[machine]
    except KeyError:
        raise OSError(errno.EOPNOTSUPP, f"no system call numbers for {machine}") from None


def _call(number: int, *arguments: object) -> None:
    """Run a system call. Raises OSError."""
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
