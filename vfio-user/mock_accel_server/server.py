"""Listens on a Unix socket for each device and serves one client a device, all in one thread."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from mock_accel_server.connection import Connection
from mock_accel_server.device import Device

_BACKLOG = 4
_PROBE_TIMEOUT_SECONDS = 2.0
_MAX_PATH_BYTES = 107  # unix(7): sun_path without its NUL
_log = logging.getLogger(__name__)


class SocketInUseError(Exception):
    """Somebody serves that socket, or it is not a socket at all."""


def listen(path: Path) -> socket.socket:
    """Listen on ``path``, readable by the owner only; a socket that nobody serves any more is replaced.

    Raises SocketInUseError for one that is alive, OSError when it cannot be made.
    """
    if len(bytes(path)) > _MAX_PATH_BYTES:
        raise SocketInUseError(f"{path}: a socket's path has at most {_MAX_PATH_BYTES} bytes; use a shorter or relative one")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketInUseError(f"{path} is there and is not a socket; remove it or choose another path")
        if _alive(path):
            raise SocketInUseError(f"{path} is served by another process; end it or choose another path")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            # Busy or not ours to connect to: alive as far as we know.
            return True
    return True


class Server:
    """All devices of a process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Path, Connection] = {}
        self._listeners: dict[Path, socket.socket] = {}
        self._wake_receiver, self._wake_sender = socket.socketpair()
        for end in (self._wake_receiver, self._wake_sender):
            end.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ, self._stop)
        self._running = True

    def add(self, path: Path, device: Device) -> None:
        """Serve ``device`` at ``path``. Raises SocketInUseError or OSError."""
        listener = listen(path)
        self._listeners[path] = listener
        accept = lambda: self._accept(path, device, listener)  # noqa: E731
        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _accept(self, path: Path, device: Device, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError as error:
            _log.warning("%s: client not accepted: %s", path, error)
            return
        if path in self._connections:
            _log.warning("%s: second client refused", path)
            client.close()
            return
        client.setblocking(False)
        connection = Connection(path.name, device, client)
        self._connections[path] = connection
        self._selector.register(client, selectors.EVENT_READ, lambda: self._receive(path, client))

    def _receive(self, path: Path, client: socket.socket) -> None:
        if not self._connections[path].receive():
            self._selector.unregister(client)
            self._connections.pop(path).close()
            _log.info("%s: client gone", path)

    def serve(self) -> None:
        """Serve until ``stop`` is called."""
        while self._running:
            for key, _ in self._selector.select():
                callback: Callable[[], None] = key.data
                callback()

    def _stop(self) -> None:
        self._running = False

    def stop(self) -> None:
        """End ``serve``; may be called from a signal handler."""
        self._wake_sender.send(b"\0")

    def close(self) -> None:
        """End all connections and remove the sockets."""
        for connection in self._connections.values():
            connection.close()
        for path, listener in self._listeners.items():
            listener.close()
            path.unlink(missing_ok=True)
        self._wake_receiver.close()
        self._wake_sender.close()
        self._selector.close()
