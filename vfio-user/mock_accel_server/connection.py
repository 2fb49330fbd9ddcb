"""One connected client: splits the stream into messages, sends replies, owns received file descriptors."""

from __future__ import annotations

import array
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mock_accel_server import protocol
from mock_accel_server.notices import Notices
from mock_accel_server.protocol import Command, EndConnectionError, RefusedError
from mock_accel_server.session import Session

# Large enough for all descriptors: the kernel closes those that do not fit, in this thread, and that can block
# (see closing.py).
_ANCILLARY_SIZE = socket.CMSG_SPACE(protocol.SCM_MAX_FDS * array.array("i").itemsize)
_FIRST_BYTES = 64
"""Enough for a register read or write, a DMA map or unmap: one system call receives the whole message."""
_REGISTER_BYTES = 8
_REGION_READ = int(Command.REGION_READ)
_READ_HEADER = protocol.HEADER.pack(0, _REGION_READ, protocol.READ_MESSAGE.size, 0, 0)[2:12]
"""The header of a region read, from its command to its flags."""
_CLOEXEC, _DONT_WAIT = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_DONTWAIT)
_CHUNK = 65536
_SHOWN_BYTES = 4096

Close = Callable[[Sequence[int], Callable[[], None]], None]
"""Closes file descriptors in another thread, then calls the function."""

log = logging.getLogger(__name__)


class ConnectionEndedError(Exception):
    """The connection is over; the message is the reason."""


@dataclass(frozen=True)
class TimeLimits:
    """Time limits for clients, in seconds."""

    handshake: float = 10.0
    """From the connection to the end of the first message."""
    message: float = 10.0
    """From the first byte of a message to its last, for its descriptors to be closed, and for the client to read a
    reply."""


class Connection:
    """Serves one client in a thread of its own.

    The thread may wait for its client, which delays no other one. It waits without a
    time limit for the first byte of a message only.

    The kernel delivers file descriptors with the first byte with which they were sent,
    and ends a receive after them. So descriptors belong to the message that contains the
    last byte received with them, even if other messages arrive before it.
    """

    def __init__(
        self, client: socket.socket, session: Session, notices: Notices, limits: TimeLimits, close: Close
    ) -> None:
        client.setblocking(True)
        self.socket = client
        self.session = session
        self.fds: list[int] = []
        """Received file descriptors. When ``serve`` has returned, another thread must close them and the socket."""
        self._notices = notices
        self._limits = limits
        self._close = close
        self._buffer = bytearray()
        self._deadline = 0.0
        """Monotonic time at which the message in the buffer must be complete."""
        self._abandoned = False
        self._closed = threading.Event()
        """Set when the descriptors of the last message are closed."""

    @property
    def name(self) -> str:
        """Name of the device, for the log."""
        return self.session.device.identity.name

    def serve(self) -> str:
        """Answer messages until the connection ends; returns the reason. The client's thread calls this once."""
        try:
            self._deadline = time.monotonic() + self._limits.handshake
            while not self.session.negotiated:
                self._answer(f"no version within {self._limits.handshake:g} s")
            while True:
                if not self._buffer:
                    self._answer_reads()
                self._deadline = time.monotonic() + self._limits.message
                self._answer(f"a message was not finished within {self._limits.message:g} s")
        except ConnectionEndedError as ended:
            return str(ended)
        finally:
            with self.session.device.lock:
                self.fds += self.session.close()
            shut_down(self.socket)

    def is_gone(self) -> bool:
        """Whether the client has closed its end, so that ``serve`` will return. Other threads may ask."""
        end = select.poll()
        end.register(self.socket, select.POLLRDHUP)
        return bool(end.poll(0))

    def abandon(self) -> None:
        """Make ``serve`` return soon, without waiting for descriptors to be closed. Other threads may call this.

        The messages of a client that is gone are executed before that.
        """
        self._abandoned = True
        self._closed.set()

    def _answer_reads(self) -> None:
        """Answer register reads as long as each arrives alone: one system call to receive it, one to send the reply.

        Returns when anything else is in the buffer. Written for speed: one loop, and names that are local.
        """
        device, receive, send, quiet = self.session.device, self.socket.recvmsg, self.socket.send, not _debugging()
        lock, read, unpack, pack = device.lock, device.read, protocol.READ_MESSAGE.unpack, protocol.READ_MESSAGE.pack
        first, space, cloexec, dont_wait = _FIRST_BYTES, _ANCILLARY_SIZE, _CLOEXEC, _DONT_WAIT
        header, size, command, reply = _READ_HEADER, protocol.READ_MESSAGE.size, _REGION_READ, protocol.TYPE_REPLY
        while True:
            try:
                data, ancillary, flags, _ = receive(first, space, cloexec)
            except OSError as error:
                raise ConnectionEndedError(f"cannot be read: {error.strerror}") from error
            if data[2:12] == header and len(data) == size and flags == cloexec and not ancillary and quiet:
                message_id, _, _, _, _, offset, region, count = unpack(data)
                if count <= _REGISTER_BYTES:
                    try:
                        with lock:
                            value = read(region, offset, count)
                        answer = pack(message_id, command, size + count, reply, 0, offset, region, count) + value
                        sent = send(answer, dont_wait)
                    except RefusedError:
                        pass  # answered by _answer
                    except BlockingIOError:
                        self._send(answer)
                        continue
                    except OSError as error:
                        raise ConnectionEndedError(f"cannot be written: {error.strerror}") from error
                    else:
                        if sent < len(answer):
                            self._send(answer[sent:])
                        continue
            self._take(data, ancillary, flags)
            return

    def _answer(self, late: str) -> None:
        """Receive and answer one message; ``late`` is the reason to end the connection at the deadline."""
        self._fill(protocol.HEADER.size, late)
        message_id, command, size, flags, _ = protocol.HEADER.unpack_from(self._buffer)
        wants_reply = not flags & protocol.NO_REPLY
        try:
            if size < protocol.HEADER.size or size > protocol.MAX_MESSAGE_SIZE:
                raise EndConnectionError(f"message size {size}, allowed {protocol.HEADER.size} to 1 MiB")
            if flags & protocol.TYPE_MASK != protocol.TYPE_COMMAND:
                wants_reply = False
                raise EndConnectionError(f"expected a command, found flags {flags:#x}")
            self._fill(size, late)
            # Descriptors belong to a message behind this one if the buffer holds the beginning of one.
            fds = self.fds if size == len(self._buffer) else []
            answer = self._handle(message_id, command, bytes(self._buffer[protocol.HEADER.size : size]), fds)
        except EndConnectionError as error:
            if wants_reply:
                self._send(protocol.error_reply(message_id, command, error.number))
            raise ConnectionEndedError(str(error)) from error
        del self._buffer[:size]
        if fds is self.fds:
            self.fds = []
        if fds:
            self._wait_for_close(fds, late)
        if wants_reply:
            self._send(answer)
        else:
            self.session.reply_fds.clear()

    def _handle(self, message_id: int, command: int, payload: bytes, fds: list[int]) -> bytes:
        try:
            with self.session.device.lock:
                answer = protocol.reply(message_id, command, self.session.handle(command, payload, fds))
        except EndConnectionError:
            raise
        except RefusedError as error:
            self._notices.warning(f"command {command} refused ({os.strerror(error.number)}): {error}")
            return protocol.error_reply(message_id, command, error.number)
        if _debugging():
            name = Command(command).name
            log.debug("%s: %s %s -> %s", self.name, name, _shown(payload), _shown(answer[protocol.HEADER.size :]))
        return answer

    def _fill(self, wanted: int, late: str) -> None:
        """Receive until the buffer holds ``wanted`` bytes."""
        while (missing := wanted - len(self._buffer)) > 0:
            try:
                data, ancillary, flags, _ = self.socket.recvmsg(
                    min(missing, _CHUNK), _ANCILLARY_SIZE, _CLOEXEC | _DONT_WAIT
                )
            except BlockingIOError:
                self._wait(select.POLLIN, self._deadline, late)
            except OSError as error:
                raise ConnectionEndedError(f"cannot be read: {error.strerror}") from error
            else:
                self._take(data, ancillary, flags)

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        """Add what was received to the buffer and to the descriptors."""
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self.fds.extend(fds)
        # All descriptors belong to one message, because nothing is received while the buffer holds a whole one.
        if flags & socket.MSG_CTRUNC or len(self.fds) > protocol.MAX_MSG_FDS:
            raise ConnectionEndedError(f"more than {protocol.MAX_MSG_FDS} file descriptors, or more than fit")
        if not data:
            raise ConnectionEndedError("disconnected in the middle of a message" if self._buffer else "disconnected")
        self._buffer += data

    def _wait_for_close(self, fds: list[int], late: str) -> None:
        """Let another thread close ``fds``, and wait: clients may expect that a reply comes afterwards."""
        closed = self._closed = threading.Event()
        self._close(fds, closed.set)
        if not self._abandoned and not closed.wait(self._limits.message):
            self._end_late(late)

    def _send(self, answer: bytes) -> None:
        """Send a reply as fast as the client reads; the session's descriptors for it go with its first byte."""
        fds, deadline = self.session.reply_fds, 0.0
        while True:
            try:
                if fds:
                    sent = socket.send_fds(self.socket, [answer], fds, _DONT_WAIT)
                    fds.clear()
                else:
                    sent = self.socket.send(answer, _DONT_WAIT)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ConnectionEndedError(f"cannot be written: {error.strerror}") from error
            if sent == len(answer):
                return
            answer = answer[sent:]
            deadline = deadline or time.monotonic() + self._limits.message
            self._wait(select.POLLOUT, deadline, f"a reply was not read within {self._limits.message:g} s")

    def _wait(self, event: int, deadline: float, late: str) -> None:
        """Wait until the socket is ready; end the connection for the reason ``late`` at the deadline."""
        ready = select.poll()
        ready.register(self.socket, event)
        if not ready.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            self._end_late(late)

    def _end_late(self, reason: str) -> None:
        self._notices.warning(f"connection ended: {reason}")
        raise ConnectionEndedError(reason)


def shut_down(client: socket.socket) -> None:
    """End the connection for both sides; its threads return from their waits. The socket remains to be closed."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _debugging() -> bool:
    return log.isEnabledFor(logging.DEBUG)


def _shown(data: bytes) -> str:
    return data[:_SHOWN_BYTES].hex() + (f"… ({len(data)} bytes)" if len(data) > _SHOWN_BYTES else "")
