"""Serve any number of devices, each on its own socket, in one thread.

Other threads close the descriptors of clients (``closing``). Nothing else here can block on a client.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mock_accel_server.closing import INTERRUPT, Closer
from mock_accel_server.connection import Connection, ConnectionEndedError, given_up
from mock_accel_server.device import Device
from mock_accel_server.listener import Listener, ListenError
from mock_accel_server.notices import shortened
from mock_accel_server.port import Port, TimeLimits
from mock_accel_server.session import Session
from mock_accel_server.timers import Timers

_RETRY_SECONDS = 0.1
_INTERRUPT_SECONDS = 0.1
_CLOSE_SECONDS = 1.0
_END_SECONDS = 1.0
_MESSAGES_BEFORE_REFUSAL = 64
_SECONDS_BEFORE_REFUSAL = 0.01  # processor time, during which other devices wait
_MAX_CLOSING = 4
"""A device with this many running close jobs accepts no client, because they are probably blocked."""
_PIPE_BYTES = 65536
_OUT_OF_FDS = (errno.EMFILE, errno.ENFILE)
_TIME_LIMITS = TimeLimits()

log = logging.getLogger(__name__)


class Server:
    """Listens from construction until ``close``; serves while ``run`` runs."""

    def __init__(self, devices: Sequence[tuple[Path, Device]], limits: TimeLimits = _TIME_LIMITS) -> None:
        """Listen for each device on its path. Raises ListenError and then listens on none."""
        self._selector = selectors.DefaultSelector()
        self._timers = Timers()
        self._retry = self._timers.timer(_RETRY_SECONDS, self._try_again)
        self._closer = Closer()
        self._closing = self._timers.timer(_INTERRUPT_SECONDS, self._interrupt_closing)
        self._wake_read, self.wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._spare_fd: int | None = None
        self._open_spare()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._selector.register(self._closer.fd, selectors.EVENT_READ)
        self._requests: deque[Callable[[], None]] = deque()
        self._requests_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._requests_fd, selectors.EVENT_READ)
        self._ports: list[Port] = []
        self._large: dict[Connection, Port] = {}
        """Clients with a large message that waits for its turn, in order."""
        self._open = True
        try:
            for path, device in devices:
                port = Port(device, Listener(path), self._timers, limits, self._late)
                self._ports.append(port)
                self._listen(port)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Serve until a byte arrives on ``wake_fd``, except the number of the signal that interrupts a close."""
        closed_fd = self._closer.fd
        while True:
            for key, events in self._selector.select(0 if self._large else self._timers.timeout()):
                port: Port | None = key.data
                if port is None:
                    if key.fd == closed_fd:
                        self._closer.collect()
                    elif key.fd == self._requests_fd:
                        self._run_requests()
                    elif set(os.read(key.fd, _PIPE_BYTES)) - {INTERRUPT}:
                        return
                elif key.fileobj is port.listener.socket:
                    self._accept(port)
                elif port.client and key.fileobj is port.client.socket and events & port.watched:
                    self._serve(port, port.client)
            if self._large:
                self._serve_large()
            self._timers.run_due()

    def stop(self) -> None:
        """Make ``run`` return; safe in signal handlers and other threads."""
        os.write(self.wake_fd, b"\0")

    def die(self, name: str) -> None:
        """End the connection of device ``name`` and remove its socket, soon; from any thread."""
        self._request(partial(self._die, name))

    def revive(self, name: str) -> None:
        """Listen again for a device after ``die``, soon; from any thread."""
        self._request(partial(self._revive, name))

    def _request(self, action: Callable[[], None]) -> None:
        self._requests.append(action)
        os.eventfd_write(self._requests_fd, 1)

    def _run_requests(self) -> None:
        os.eventfd_read(self._requests_fd)
        while self._requests:
            self._requests.popleft()()

    def _die(self, name: str) -> None:
        for port in self._ports:
            if port.device.identity.name == name and not port.dead:
                port.dead = True
                if port.client:
                    self._end(port, port.client, "the device dies")
                self._listen(port)
                port.listener.remove()
                self._close(port, [port.listener.socket.detach()])

    def _revive(self, name: str) -> None:
        for port in self._ports:
            if port.device.identity.name == name and port.dead:
                try:
                    port.listener = Listener(port.listener.path)
                except ListenError as error:
                    log.warning("%s: stays dead: %s", name, error)
                    continue
                port.dead = False
                self._listen(port)

    def close(self) -> None:
        """Close every connection and remove the socket files."""
        self._open = False
        for port in self._ports:
            if port.client:
                self._end(port, port.client, "the server stops")
            port.notices.flush()
            self._listen(port)
            if not port.dead:
                port.listener.remove()
                self._close(port, [port.listener.socket.detach()])
        self._selector.close()
        self._closer.end(_END_SECONDS)
        for fd in (self._wake_read, self.wake_fd, self._requests_fd, self._spare_fd):
            if fd is not None:
                os.close(fd)

    def _listen(self, port: Port) -> None:
        """Wait for clients, or leave them in the backlog while none can be accepted."""
        wanted = self._open and not port.dead and port.closing < _MAX_CLOSING and not port.out_of_fds
        if wanted and not port.listening:
            self._selector.register(port.listener.socket, selectors.EVENT_READ, port)
        elif port.listening and not wanted:
            self._selector.unregister(port.listener.socket)
        port.listening = wanted

    def _accept(self, port: Port) -> None:
        client = self._accepted(port)
        if client is None:
            return
        if port.client:
            self._drain(port, port.client)
        if port.client:
            self._close(port, given_up(client))
            port.notices.warning("second client refused")
            return
        port.client = Connection(client, Session(port.device), port.notices)
        port.handshake.start()
        self._watch(port, port.client)
        log.info("%s: client connected", port.device.identity.name)

    def _accepted(self, port: Port) -> socket.socket | None:
        try:
            return port.listener.socket.accept()[0]
        except OSError as error:
            # BlockingIOError, ECONNABORTED: the client is already gone. Without free file
            # descriptors the client would stay in the backlog and select would return at once, forever.
            if error.errno in _OUT_OF_FDS:
                self._turn_away(port, os.strerror(error.errno))
            return None

    def _turn_away(self, port: Port, reason: str) -> None:
        """Use the spare file descriptor to accept and close the client, then pause accepting."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
            with suppress(OSError):
                self._close(port, given_up(port.listener.socket.accept()[0]))
            port.notices.warning(f"a client was turned away: {reason}")
        port.out_of_fds = True
        self._listen(port)
        self._retry.start()

    def _try_again(self) -> None:
        self._open_spare()
        for port in self._ports:
            port.out_of_fds = False
            self._listen(port)

    def _open_spare(self) -> None:
        if self._spare_fd is None:
            with suppress(OSError):  # retried after the next client that cannot be accepted
                self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _drain(self, port: Port, client: Connection) -> None:
        """Notice a client that is gone at once, even if the next client's connection is seen first."""
        enough = time.thread_time() + _SECONDS_BEFORE_REFUSAL
        try:
            for _ in range(_MESSAGES_BEFORE_REFUSAL):
                if client.sending or not client.receive() or time.thread_time() > enough:
                    break
        except ConnectionEndedError as ended:
            self._end(port, client, str(ended))
        else:
            self._watch(port, client)

    def _serve_large(self) -> None:
        """Answer one large message. It takes up to 0.1 s, so all other clients are served before the next one."""
        client, port = next(iter(self._large.items()))
        del self._large[client]
        self._serve(port, client, turn=True)

    def _serve(self, port: Port, client: Connection, turn: bool = False) -> None:
        try:
            if client.sending:
                client.flush()
            elif not client.closing:
                client.receive(turn)
        except ConnectionEndedError as ended:
            self._end(port, client, str(ended))
        else:
            self._watch(port, client)

    def _watch(self, port: Port, client: Connection) -> None:
        """Select the event that the client's state needs; none while its descriptors are being closed."""
        if client.unwanted:
            fds, client.unwanted = client.unwanted, []
            client.closing += 1
            self._close(port, fds, client)
        wanted = selectors.EVENT_READ
        if client.closing:
            wanted = 0
        elif client.sending:
            wanted = selectors.EVENT_WRITE
        elif client.large:
            wanted = 0
            self._large[client] = port
        if wanted != port.watched:
            self._select(port, client, wanted)
        if client.session.negotiated and port.handshake.running:
            port.handshake.stop()
        if client.idle or client.large:
            port.stalled.stop()
        elif not port.stalled.running:
            port.stalled.start()

    def _select(self, port: Port, client: Connection, wanted: int) -> None:
        if not port.watched:
            self._selector.register(client.socket, wanted, port)
        elif wanted:
            self._selector.modify(client.socket, wanted, port)
        else:
            self._selector.unregister(client.socket)
        port.watched = wanted

    def _late(self, port: Port, reason: str) -> None:
        """Disconnect a client that exceeded a time limit."""
        if port.client:
            port.notices.warning(f"connection ended: {reason}")
            self._end(port, port.client, reason)

    def _end(self, port: Port, client: Connection, reason: str) -> None:
        if port.watched:
            self._select(port, client, 0)
        self._large.pop(client, None)
        port.client = None
        port.handshake.stop()
        port.stalled.stop()
        self._close(port, client.end())
        log.info("%s: connection ended: %s", port.device.identity.name, shortened(reason))

    def _close(self, port: Port, fds: Sequence[int], client: Connection | None = None) -> None:
        """Close ``fds`` in another thread; ``client`` is not served until that is done."""
        port.closing += 1
        self._closer.close(fds, partial(self._closed, port, client))
        self._listen(port)
        if not self._closing.running:
            self._closing.start()

    def _interrupt_closing(self) -> None:
        self._closer.interrupt(_CLOSE_SECONDS)
        if self._closer.busy:
            self._closing.start()

    def _closed(self, port: Port, client: Connection | None) -> None:
        port.closing -= 1
        self._listen(port)
        if client:
            client.closing -= 1
            if client is port.client and not client.closing:
                self._serve(port, client)
