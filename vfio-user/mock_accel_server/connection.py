"""One connected client: splits the stream into messages, sends replies, owns received file descriptors."""

from __future__ import annotations

import array
import logging
import os
import socket
from contextlib import suppress

from mock_accel_server import protocol
from mock_accel_server.notices import Notices
from mock_accel_server.protocol import Command, EndConnectionError, RefusedError
from mock_accel_server.session import Session

# Large enough for all descriptors: the kernel closes those that do not fit, in this thread, and that can block
# (see closing.py).
_ANCILLARY_SIZE = socket.CMSG_SPACE(protocol.SCM_MAX_FDS * array.array("i").itemsize)
_CHUNK = 65536
_SHOWN_BYTES = 4096
_LARGE = 16384
"""A message with more bytes waits for its turn; QEMU's messages have less than half of it."""

log = logging.getLogger(__name__)


class ConnectionEndedError(Exception):
    """The connection is over; the message is the reason."""


class Connection:
    """Uses a non-blocking socket, so that no client delays another one.

    A header is read alone, so that received file descriptors belong to its message:
    the kernel delivers them with the first byte with which they were sent.
    """

    def __init__(self, client: socket.socket, session: Session, notices: Notices) -> None:
        client.setblocking(False)
        self.socket = client
        self.session = session
        self.closing = 0
        """Number of batches taken from ``unwanted`` that are not completely closed yet."""
        self.large = False
        """A large message waits for its turn; until then nothing more is read."""
        self.unwanted: list[int] = []
        """File descriptors of handled messages, to be closed by another thread."""
        self._notices = notices
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._unsent = b""
        self._before_fds = 0
        """Bytes of ``_unsent`` before the reply that takes the session's ``reply_fds``."""

    @property
    def name(self) -> str:
        """Name of the device, for the log."""
        return self.session.device.identity.name

    @property
    def sending(self) -> bool:
        """Whether a reply waits for the client to read; until then no message is read from it."""
        return bool(self._unsent) and not self._holding

    @property
    def _holding(self) -> bool:
        """Whether replies are held back until the descriptors of their messages are closed, as clients may expect."""
        return bool(self.unwanted or self.closing)

    @property
    def idle(self) -> bool:
        """Whether there is no partial message, no unsent reply and no file descriptor to close."""
        return not (self._buffer or self._unsent or self._fds or self.closing)

    def receive(self, turn: bool = False) -> bool:
        """Answer one message. False if it is incomplete, or if it is ``large`` and ``turn`` is False.

        Raises ConnectionEndedError.
        """
        if not self._fill(protocol.HEADER.size):
            return False
        header = protocol.HEADER.unpack_from(self._buffer)
        message_id, command, size, flags, _ = header
        try:
            if size < protocol.HEADER.size or size > protocol.MAX_MESSAGE_SIZE:
                raise EndConnectionError(f"message size {size}, allowed {protocol.HEADER.size} to 1 MiB")
            if flags & protocol.TYPE_MASK != protocol.TYPE_COMMAND:
                raise EndConnectionError(f"expected a command, found flags {flags:#x}")
            if not self._fill(size):
                return False
            self.large = size > _LARGE and not turn
            if self.large:
                return False
            answer = self._handle(message_id, command, flags, bytes(self._buffer[protocol.HEADER.size :]))
        except EndConnectionError as error:
            if flags & protocol.TYPE_MASK == protocol.TYPE_COMMAND and not flags & protocol.NO_REPLY:
                self._unsent += protocol.error_reply(message_id, command, error.number)
                self.flush()
            raise ConnectionEndedError(str(error)) from error
        self._buffer.clear()
        if self._fds:
            self.unwanted += self._fds
            self._fds.clear()
        if flags & protocol.NO_REPLY:
            self.session.reply_fds.clear()
        else:
            self._before_fds = len(self._unsent)
            self._unsent += answer
            if not self._holding:
                self.flush()
        return True

    def _handle(self, message_id: int, command: int, flags: int, payload: bytes) -> bytes:
        try:
            answer = protocol.reply(message_id, command, self.session.handle(command, payload, self._fds))
        except EndConnectionError:
            raise
        except RefusedError as error:
            self._notices.warning(f"command {command} refused ({os.strerror(error.number)}): {error}")
            return protocol.error_reply(message_id, command, error.number)
        if log.isEnabledFor(logging.DEBUG):
            name = Command(command).name
            log.debug("%s: %s %s -> %s", self.name, name, _shown(payload), _shown(answer[protocol.HEADER.size :]))
        return answer

    def _fill(self, wanted: int) -> bool:
        """Read until the buffer holds ``wanted`` bytes; False if more must arrive first."""
        while (missing := wanted - len(self._buffer)) > 0:
            try:
                data, ancillary, flags, _ = self.socket.recvmsg(
                    min(missing, _CHUNK), _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return False
            except OSError as error:
                raise ConnectionEndedError(f"cannot be read: {error.strerror}") from error
            if ancillary:
                self._take_fds(ancillary)
            if flags & socket.MSG_CTRUNC or len(self._fds) > protocol.MAX_MSG_FDS:
                raise ConnectionEndedError(f"more than {protocol.MAX_MSG_FDS} file descriptors, or more than fit")
            if not data:
                raise ConnectionEndedError(
                    "disconnected in the middle of a message" if self._buffer else "disconnected"
                )
            self._buffer += data
        return True

    def _take_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self._fds.extend(fds)

    def flush(self) -> None:
        """Send as much of the unsent replies as the client accepts. Raises ConnectionEndedError."""
        fds = self.session.reply_fds
        try:
            if fds and not self._before_fds:
                sent = socket.send_fds(self.socket, [self._unsent], fds)
                fds.clear()
            else:
                sent = self.socket.send(self._unsent[: self._before_fds] if fds else self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionEndedError(f"cannot be written: {error.strerror}") from error
        self._unsent = self._unsent[sent:]
        self._before_fds = max(0, self._before_fds - sent)

    def end(self) -> list[int]:
        """End the connection; returns the descriptors that another thread must close: socket and received ones."""
        kept = self.session.close()
        return [*given_up(self.socket), *self.unwanted, *self._fds, *kept]


def given_up(client: socket.socket) -> list[int]:
    """Shut the connection down; returns the socket's file descriptor, which another thread must close."""
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    return [client.detach()]


def _shown(data: bytes) -> str:
    return data[:_SHOWN_BYTES].hex() + (f"… ({len(data)} bytes)" if len(data) > _SHOWN_BYTES else "")
