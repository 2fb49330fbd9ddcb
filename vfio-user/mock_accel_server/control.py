"""The control socket: JSON lines, one answer for each request, in a thread of its own."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mock_accel_server.listener import Listener

NAME = "control.sock"
_LONGEST = 4096
"""Bytes of a request."""
_CONNECTIONS = 8
_SILENT_SECONDS = 30.0
_SWEEP_SECONDS = 1.0
_RETRY_SECONDS = 0.1
_JOIN_SECONDS = 5.0
_TOO_LONG = b'{"error": "expected a request of at most 4096 bytes, found a longer line"}\n'
_TOO_MANY = b'{"error": "expected at most 8 connections to the control socket, found one more; try again"}\n'


@dataclass(eq=False)
class _Peer:
    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    heard: float = field(default_factory=time.monotonic)


class ControlServer:
    """Listens from construction until ``close``. ``answer`` gets a line and returns one; it must not block."""

    def __init__(self, path: Path, answer: Callable[[bytes], bytes]) -> None:
        """Raises ListenError."""
        self._listener = Listener(path)
        self._answer = answer
        self._peers: set[_Peer] = set()
        self._selector = selectors.DefaultSelector()
        self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._end, selectors.EVENT_READ)
        self._selector.register(self._listener.socket, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the connections and remove the socket file."""
        os.eventfd_write(self._end, 1)
        self._thread.join(_JOIN_SECONDS)
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.close()
        self._listener.remove()
        self._listener.socket.close()
        os.close(self._end)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(_SWEEP_SECONDS if self._peers else None):
                if key.fd == self._end:
                    return
                if isinstance(key.data, _Peer):
                    self._serve(key.data)
                else:
                    self._accept()
            earliest = time.monotonic() - _SILENT_SECONDS
            for peer in [peer for peer in self._peers if peer.heard < earliest]:
                self._drop(peer)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # the client waits in the backlog
                select.select([self._end], [], [], _RETRY_SECONDS)
            return
        accepted.setblocking(False)
        if len(self._peers) >= _CONNECTIONS:
            with suppress(OSError):
                accepted.send(_TOO_MANY)
            accepted.close()
            return
        peer = _Peer(accepted)
        self._peers.add(peer)
        self._selector.register(accepted, selectors.EVENT_READ, peer)

    def _drop(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()

    def _serve(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.buffer += data
        peer.heard = time.monotonic()
        open_ = bool(data)
        while open_ and b"\n" in peer.buffer:
            line, _, rest = bytes(peer.buffer).partition(b"\n")
            peer.buffer[:] = rest
            open_ = self._send(peer, _TOO_LONG if len(line) > _LONGEST else self._answer(line) + b"\n")
        if open_ and len(peer.buffer) > _LONGEST:
            self._send(peer, _TOO_LONG)
            open_ = False
        if not open_:
            self._drop(peer)

    def _send(self, peer: _Peer, data: bytes) -> bool:
        """False if the peer does not read its answers."""
        try:
            return peer.socket.send(data) == len(data)
        except OSError:
            return False
