"""Serve any number of devices, each on its own socket.

One thread, the loop, accepts clients. Each client is served by a thread of its own
(``connection``), and others close the descriptors of clients (``closing``). The loop
waits for nothing that a client controls.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mock_accel_server.calls import Calls
from mock_accel_server.closing import INTERRUPT, Closer
from mock_accel_server.connection import Connection, TimeLimits, shut_down
from mock_accel_server.device import Device
from mock_accel_server.listener import Listener, ListenError
from mock_accel_server.notices import shortened
from mock_accel_server.port import Port
from mock_accel_server.session import Session
from mock_accel_server.timers import Timers

SWITCH_SECONDS = 0.0005
_RETRY_SECONDS = 0.1
_INTERRUPT_SECONDS = 0.1
_CLOSE_SECONDS = 1.0
_END_SECONDS = 1.0
_LOOP_SECONDS = 5.0
_PIPE_BYTES = 65536
_OUT_OF_FDS = (errno.EMFILE, errno.ENFILE)
_TIME_LIMITS = TimeLimits()

log = logging.getLogger(__name__)


def share_evenly() -> None:
    """Make a thread of this process that computes pass Python's global lock on after ``SWITCH_SECONDS``.

    An expensive message of one device delays the messages of others by that time.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


class Server:
    """Listens from construction until ``close``; serves while ``run`` runs."""

    def __init__(self, devices: Sequence[tuple[Path, Device]], limits: TimeLimits = _TIME_LIMITS) -> None:
        """Listen for each device on its path. Raises ListenError and then listens on none."""
        self._limits = limits
        self._selector = selectors.DefaultSelector()
        self._calls = Calls()
        self._timers = Timers(self._calls.wake)
        self._retry = self._timers.timer(_RETRY_SECONDS, self._try_again)
        self._closer = Closer()
        self._closing = self._timers.timer(_INTERRUPT_SECONDS, self._interrupt_closing)
        self._wake_read, self.wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._spare_fd: int | None = None
        self._open_spare()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._selector.register(self._calls.fd, selectors.EVENT_READ)
        self._ports: list[Port] = []
        self._open = True
        try:
            for path, device in devices:
                port = Port(device, Listener(path), self._timers, limits.handshake, self._impatient)
                self._ports.append(port)
                self._listen(port)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Serve until a byte arrives on ``wake_fd``, except the number of the signal that interrupts a close."""
        calls_fd = self._calls.fd
        while True:
            for key, _ in self._selector.select(self._timers.timeout()):
                port: Port | None = key.data
                if port is not None:
                    self._accept(port)
                elif key.fd == calls_fd:
                    self._calls.run()
                elif set(os.read(key.fd, _PIPE_BYTES)) - {INTERRUPT}:
                    return
            self._timers.run_due()

    def stop(self) -> None:
        """Make ``run`` return; safe in signal handlers and other threads."""
        os.write(self.wake_fd, b"\0")

    def die(self, name: str) -> None:
        """End the connection of a device and remove its socket. Not for the loop's thread. Raises KeyError."""
        self._in_loop(partial(self._die, self._port(name)))

    def revive(self, name: str) -> None:
        """Listen for a dead device again. Not for the loop's thread. Raises KeyError."""
        port = self._port(name)
        if port.dead:
            try:
                self._in_loop(partial(self._revive, port, Listener(port.listener.path)))
            except ListenError as error:
                log.warning("%s: stays dead: %s", name, error)

    def close(self) -> None:
        """Close every connection and remove the socket files."""
        self._open = False
        for port in self._ports:
            self._die(port)
        deadline = time.monotonic() + _END_SECONDS
        for port in self._ports:
            if port.thread:
                port.thread.join(max(0.0, deadline - time.monotonic()))
        self._calls.run()
        for port in self._ports:
            port.notices.flush()
        self._selector.close()
        self._closer.end(_END_SECONDS)
        self._calls.close()
        for fd in (self._wake_read, self.wake_fd, self._spare_fd):
            if fd is not None:
                os.close(fd)

    def _port(self, name: str) -> Port:
        return {port.device.identity.name: port for port in self._ports}[name]

    def _in_loop(self, call: Callable[[], None]) -> None:
        """Run ``call`` in the loop's thread and wait for its end. Raises TimeoutError."""
        done = threading.Event()

        def run() -> None:
            call()
            done.set()

        self._calls.post(run)
        if not done.wait(_LOOP_SECONDS):
            raise TimeoutError(f"expected the server's loop to answer within {_LOOP_SECONDS:g} s; it does not run")

    def _die(self, port: Port) -> None:
        if port.dead:
            return
        port.dead = True
        self._listen(port)
        port.listener.remove()
        self._close(port, [port.listener.socket.detach()])
        self._refuse_next(port, "the device is dead")
        if port.client:
            port.client.abandon()
            shut_down(port.client.socket)

    def _revive(self, port: Port, listener: Listener) -> None:
        port.listener, port.dead = listener, False
        self._listen(port)

    def _listen(self, port: Port) -> None:
        """Wait for clients, or leave them in the backlog while none can be accepted."""
        wanted = self._open and not (port.dead or port.blocked or port.out_of_fds or port.next)
        if wanted and not port.listening:
            self._selector.register(port.listener.socket, selectors.EVENT_READ, port)
        elif port.listening and not wanted:
            self._selector.unregister(port.listener.socket)
        port.listening = wanted

    def _accept(self, port: Port) -> None:
        if not port.listening:  # an event of the same round has changed that
            return
        client = self._accepted(port)
        if client is None:
            return
        if not port.client:
            self._start(port, client)
        elif port.client.is_gone():  # noticed by its thread soon, after the messages that it left
            port.client.abandon()
            port.next = client
            port.patience.start()
            self._listen(port)
        else:
            self._refuse(port, client, "second client refused")

    def _accepted(self, port: Port) -> socket.socket | None:
        try:
            return port.listener.socket.accept()[0]
        except OSError as error:
            # BlockingIOError, ECONNABORTED: the client is already gone. Without free file
            # descriptors the client would stay in the backlog and select would return at once, forever.
            if error.errno in _OUT_OF_FDS:
                self._turn_away(port, os.strerror(error.errno))
            return None

    def _start(self, port: Port, client: socket.socket) -> None:
        """Serve ``client`` in a new thread."""
        name = port.device.identity.name
        connection = Connection(client, Session(port.device), port.notices, self._limits, partial(self._close, port))
        thread = threading.Thread(target=self._serve, args=(port, connection), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads allowed
            self._refuse(port, client, f"a client was turned away: {error}")
            connection.session.close()
            return
        port.client, port.thread = connection, thread
        log.info("%s: client connected", name)

    def _serve(self, port: Port, client: Connection) -> None:
        """Serve ``client`` in its thread until it ends."""
        reason = "an error in the server"
        try:
            reason = client.serve()
        finally:
            self._calls.post(partial(self._ended, port, client, reason))

    def _ended(self, port: Port, client: Connection, reason: str) -> None:
        """Close what the client's thread has left, and serve the next client."""
        log.info("%s: connection ended: %s", port.device.identity.name, shortened(reason))
        self._close(port, [client.socket.detach(), *client.fds])
        port.client = port.thread = None
        if port.next:
            successor, port.next = port.next, None
            port.patience.stop()
            self._start(port, successor)
        self._listen(port)

    def _refuse_next(self, port: Port, reason: str) -> None:
        """Refuse the client that waits."""
        if port.next:
            refused, port.next = port.next, None
            port.patience.stop()
            self._refuse(port, refused, f"a client refused: {reason}")
            self._listen(port)

    def _impatient(self, port: Port) -> None:
        self._refuse_next(port, "the last one's messages are not finished")

    def _refuse(self, port: Port, client: socket.socket, reason: str) -> None:
        port.notices.warning(reason)
        shut_down(client)
        self._close(port, [client.detach()])

    def _turn_away(self, port: Port, reason: str) -> None:
        """Use the spare file descriptor to accept and close the client, then pause accepting."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
            with suppress(OSError):
                self._refuse(port, port.listener.socket.accept()[0], f"a client was turned away: {reason}")
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

    def _close(self, port: Port, fds: Sequence[int], closed: Callable[[], None] = lambda: None) -> None:
        """Close ``fds`` in another thread, then call ``closed`` there. Any thread may call this."""
        self._count_closing(port, 1)
        self._closer.close(fds, partial(self._closed, port, closed))
        if not self._closing.running:
            self._closing.start()

    def _closed(self, port: Port, closed: Callable[[], None]) -> None:
        self._count_closing(port, -1)
        closed()

    def _count_closing(self, port: Port, change: int) -> None:
        if port.count_closing(change):
            self._calls.post(partial(self._listen, port))

    def _interrupt_closing(self) -> None:
        self._closer.interrupt(_CLOSE_SECONDS)
        if self._closer.busy:
            self._closing.start()
