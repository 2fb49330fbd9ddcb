"""Socket files: replace a stale one, refuse a live one, and remove the own one at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATH_BYTES = 107  # unix(7), "Address format": sun_path has 108, one is the NUL
_BACKLOG = 8
_PROBE_SECONDS = 1.0
_LOCK_SECONDS = 5.0
_LOCK_POLL_SECONDS = 0.01


class ListenError(Exception):
    """A path is not usable for a socket; the message says why and what to do."""


class Listener:
    """A listening socket at ``path``, accessible to its user only (mode 0600)."""

    def __init__(self, path: Path) -> None:
        """Raises ListenError."""
        if len(os.fsencode(path)) > _PATH_BYTES:
            raise ListenError(f"{path}: a socket path has at most {_PATH_BYTES} bytes; use a shorter or a relative one")
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _locked(path.parent):
                _remove_stale(path)
                self._bind()
                self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            raise ListenError(f"{path}: cannot listen: {error.strerror or error}") from error
        except ListenError:
            self.socket.close()
            raise

    def _bind(self) -> None:
        mask = os.umask(0o177)
        try:
            self.socket.bind(str(self.path))
        finally:
            os.umask(mask)
        made = self.path.lstat()
        self._inode = (made.st_dev, made.st_ino)

    def remove(self) -> None:
        """Remove the socket file unless another process replaced it. The socket stays open."""
        with suppress(FileNotFoundError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._inode:
                self.path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two starting servers from replacing the same stale file. Locking the folder leaves no lock file."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ListenError(f"{folder}: locked by another process for {_LOCK_SECONDS:.0f} s") from None
                time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    """Remove a stale socket. Raises ListenError if ``path`` is not a socket or a server listens there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path}: expected nothing or a socket, found another kind of file; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        result = probe.connect_ex(str(path))
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ListenError(f"{path}: a server listens there already; stop it or choose another path")
    path.unlink(missing_ok=True)
