"""Serves any number of devices, each on its own socket, in one thread."""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mock_accel_server.connection import Connection, ConnectionEndedError
from mock_accel_server.device import Device
from mock_accel_server.listener import Listener
from mock_accel_server.session import Session

_HANDSHAKE_SECONDS = 10.0
_MESSAGES_BEFORE_REFUSAL = 64
_OUT_OF_FDS = (errno.EMFILE, errno.ENFILE)

log = logging.getLogger(__name__)


class Port:
    """One device, its socket, and its client if it has one."""

    def __init__(self, device: Device, listener: Listener) -> None:
        self.device = device
        self.listener = listener
        self.client: Connection | None = None
        self.deadline = float("inf")
        """Monotonic time until which the client must have negotiated a version."""


class Server:
    """Listens from construction to ``close``; serves while ``run`` runs."""

    def __init__(self, devices: Sequence[tuple[Path, Device]], handshake_seconds: float = _HANDSHAKE_SECONDS) -> None:
        """Listen for each device on its path. Raises ListenError, and then listens nowhere."""
        self._handshake_seconds = handshake_seconds
        self._selector = selectors.DefaultSelector()
        self._wake_read, self.wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._ports: list[Port] = []
        try:
            for path, device in devices:
                port = Port(device, Listener(path))
                self._ports.append(port)
                self._selector.register(port.listener.socket, selectors.EVENT_READ, port)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Serve until something is written to ``wake_fd``."""
        while True:
            for key, events in self._selector.select(self._timeout()):
                if key.fd == self._wake_read:
                    return
                port: Port = key.data
                if key.fileobj is port.listener.socket:
                    self._accept(port)
                elif port.client and key.fileobj is port.client.socket:
                    self._serve(port, port.client, events)
            self._end_silent()

    def stop(self) -> None:
        """Make ``run`` return; safe from a signal handler and from other threads."""
        os.write(self.wake_fd, b"\0")

    def close(self) -> None:
        """Close every connection and remove the socket files."""
        for port in self._ports:
            if port.client:
                self._end(port, port.client, "the server stops")
            port.listener.close()
        self._selector.close()
        for fd in (self._wake_read, self.wake_fd, self._spare_fd):
            os.close(fd)

    def _timeout(self) -> float | None:
        deadline = min((port.deadline for port in self._ports), default=float("inf"))
        return None if deadline == float("inf") else max(0.0, deadline - time.monotonic())

    def _end_silent(self) -> None:
        for port in self._ports:
            if port.client and port.deadline != float("inf") and time.monotonic() > port.deadline:
                self._end(port, port.client, f"no version within {self._handshake_seconds:g} s")

    def _accept(self, port: Port) -> None:
        client = self._accepted(port.listener.socket)
        if client is None:
            return
        if port.client:
            self._drain(port, port.client)
        if port.client:
            client.close()
            log.warning("%s: second client refused", port.device.identity.name)
            return
        port.client = Connection(client, Session(port.device))
        port.deadline = time.monotonic() + self._handshake_seconds
        self._selector.register(client, selectors.EVENT_READ, port)
        log.info("%s: client connected", port.device.identity.name)

    def _accepted(self, listening: socket.socket) -> socket.socket | None:
        try:
            return listening.accept()[0]
        except OSError as error:
            # BlockingIOError, ECONNABORTED: gone meanwhile. Without file
            # descriptors the client would wait, and select return at once, for ever.
            if error.errno in _OUT_OF_FDS:
                os.close(self._spare_fd)
                with suppress(OSError):
                    listening.accept()[0].close()
                self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                log.error("a client was turned away: %s", error.strerror)
            return None

    def _drain(self, port: Port, client: Connection) -> None:
        """A client that has gone makes room at once, even if its end comes after the next one's connection."""
        try:
            for _ in range(_MESSAGES_BEFORE_REFUSAL):
                if client.sending or not client.receive():
                    break
        except ConnectionEndedError as ended:
            self._end(port, client, str(ended))
        else:
            self._watch(port, client)

    def _serve(self, port: Port, client: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                client.flush()
            else:
                client.receive()
        except ConnectionEndedError as ended:
            self._end(port, client, str(ended))
        else:
            self._watch(port, client)

    def _watch(self, port: Port, client: Connection) -> None:
        """Wait for the client to read or to write, whichever comes next."""
        if client.session.negotiated:
            port.deadline = float("inf")
        wanted = selectors.EVENT_WRITE if client.sending else selectors.EVENT_READ
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, port)

    def _end(self, port: Port, client: Connection, reason: str) -> None:
        self._selector.unregister(client.socket)
        client.close()
        port.client = None
        port.deadline = float("inf")
        log.info("%s: connection ended: %s", port.device.identity.name, reason)
