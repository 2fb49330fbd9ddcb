"""Clients of the fuzzed server: peers that attack, and a witness that must be answered at all times."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mock_accel_server import protocol
from mock_accel_server.protocol import Command
from vfio_user_client import Client, version

ANSWER_SECONDS = 1.0
"""A device that is not attacked must always answer within this time."""
BUSY_SECONDS = 30.0
"""A half message may occupy a device for this time: the server's ten seconds, and some delay."""
RETRY_SECONDS = 0.1
_CHECK_SECONDS = 0.05
_JOIN_SECONDS = 10.0
CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)
"""Errors by which a client notices that the server ended the connection."""


class FuzzError(AssertionError):
    """The server misbehaved."""


class Files:
    """Open files of every kind, to be attached to messages."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        memory = os.memfd_create("ram")
        os.ftruncate(memory, 1 << 20)
        reading, writing = os.pipe()
        self._fds = [
            memory,
            os.open(f"/proc/self/fd/{memory}", os.O_RDONLY),
            os.memfd_create("empty"),
            os.eventfd(0),
            os.eventfd(0, os.EFD_NONBLOCK),
            reading,
            writing,
            os.open(os.devnull, os.O_RDWR),
            os.open("/", os.O_RDONLY),
            os.open("/", os.O_PATH),
            socket.socket(socket.AF_UNIX).detach(),
            socket.socket(socket.AF_INET).detach(),
        ]

    def pick(self, source: random.Random, number: int, own: int) -> list[int]:
        """Random file descriptors, possibly ``own``; mostly those that a device can use."""
        good = self._fds[0], self._fds[3], self._fds[4]
        return [source.choice([*good, *good, own, *self._fds]) for _ in range(number)]

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


class Witness(threading.Thread):
    """Well-behaved clients: one stays connected, one reconnects for each read. Each must be answered in time."""

    def __init__(self, stays: Path, again: Path, starved: Callable[[], float]) -> None:
        """``starved`` returns the seconds spent waiting for a processor, which are not the server's fault."""
        super().__init__(daemon=True)
        self._starved = starved
        self._stays, self._again = stays, again
        self._end = threading.Event()
        self.slowest = 0.0
        """Duration of the slowest answer in seconds."""
        self.answers = 0
        self.failure = ""

    def run(self) -> None:
        try:
            with Client(self._stays) as client:
                while not self._end.wait(_CHECK_SECONDS):
                    self._ask(lambda: client.read(0, 4))
                    with ExitStack() as stack:  # the connection's thread lives until its starved time is known
                        self._ask(lambda stack=stack: stack.enter_context(Client(self._again)).read(0, 4))  # type: ignore[misc]
        except (OSError, EOFError, FuzzError) as error:
            self.failure = f"a device that is not attacked failed: {error or type(error).__name__}"

    def _ask(self, question: Callable[[], bytes]) -> None:
        start = time.monotonic() - self._starved()
        if question() != b"KCOM":
            raise FuzzError("a wrong answer")
        took = time.monotonic() - self._starved() - start
        self.answers += 1
        self.slowest = max(self.slowest, took)
        if took > ANSWER_SECONDS:
            raise FuzzError(f"expected an answer within {ANSWER_SECONDS} s, got it after {took:.2f} s")

    def end(self) -> None:
        """Stop the thread and wait for its end."""
        self._end.set()
        self.join(_JOIN_SECONDS)


class Peer:
    """The attacking side of one device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client: Client | None = None
        self._busy_since: float | None = None
        self._not_before = 0.0

    def connected(self) -> Client | None:
        """A connection with a negotiated version; None while the server still serves the last one.

        Raises FuzzError if the server does not end that in time.
        """
        now = time.monotonic()
        if self._client or now < self._not_before:
            return self._client
        client = Client(self.path, negotiate=False)
        try:
            client.call(Command.VERSION, version())
        except CLOSED:
            client.socket.close()
            self._busy_since = self._busy_since or now
            self._not_before = now + RETRY_SECONDS
            if now - self._busy_since > BUSY_SECONDS:
                raise FuzzError(f"{self.path.name}: the device no longer accepts clients") from None
            return None
        self._busy_since = None
        self._client = client
        return client

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._client:
            self._client.socket.close()
            self._client = None


def check_reply(client: Client, message_id: int, command: int) -> int:
    """Wait for the reply to a message; returns its error number, 0 for none. Raises FuzzError."""
    try:
        reply = client.receive()
    except CLOSED as error:
        raise FuzzError(f"expected a reply to command {command}, found the end of the connection") from error
    except TimeoutError as error:
        raise FuzzError(f"no reply to command {command}") from error
    kind = reply.flags & protocol.TYPE_MASK
    if (reply.message_id, reply.command, kind) != (message_id, command, protocol.TYPE_REPLY):
        raise FuzzError(f"expected a reply to message {message_id}, command {command}, found {reply}")
    failed = bool(reply.flags & protocol.ERROR)
    if failed != bool(reply.error) or (failed and reply.payload):
        raise FuzzError(f"an error reply has an error number and no payload, found {reply}")
    return reply.error
