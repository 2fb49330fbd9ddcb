"""Device memory: BAR2, a memfd that a guest maps and that jobs use by offset."""

from __future__ import annotations

import ctypes
import fcntl
import os

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of linux/falloc.h

_libc = ctypes.CDLL(None, use_errno=True)


class Window:
    """``size`` bytes, a power of two. Unused pages take no memory; an unused window has no file.

    The server reads and writes the file and never maps it. The file cannot be
    truncated, so neither side gets SIGBUS.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._fd: int | None = None
        self._shared: int | None = None

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, both within ``size``."""
        return bytes(count) if self._fd is None else os.pread(self._fd, count, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write within ``size``."""
        if data:
            os.pwrite(self.fd, data, offset)

    @property
    def fd(self) -> int:
        """The server's descriptor."""
        if self._fd is None:
            self._fd = os.memfd_create("window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self._fd, self.size)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        return self._fd

    @property
    def shared_fd(self) -> int:
        """A descriptor for a client; another open file, so that its flags, O_APPEND for example, stay the client's."""
        if self._shared is None:
            self._shared = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        return self._shared

    def clear(self) -> None:
        """Fill the window with zeros, also where it is mapped, and free its memory."""
        if self._fd is None:
            return
        arguments = ctypes.c_int(_PUNCH_HOLE), ctypes.c_longlong(0), ctypes.c_longlong(self.size)
        if _libc.fallocate(ctypes.c_int(self._fd), *arguments) < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"the window cannot be cleared: {os.strerror(error)}")

    def close(self) -> None:
        """Close the descriptors. Memory that a client still maps stays until the client unmaps it."""
        for fd in (self._fd, self._shared):
            if fd is not None:
                os.close(fd)
        self._fd = self._shared = None
