"""Requests to a process of the lab, over an abstract Unix socket: one JSON object per line in each direction.

A request is ``{"do": …}``, its answer ``{"result": …}`` or ``{"error": …}``;
events ``{"event": …}`` may precede the answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout

MAX_LINE_BYTES = 1 << 20
_MAX_REQUESTS = 16


class NotRunningError(StepError):
    """No process listens on the socket."""


class Connection:
    """The client's side.

    Whatever the server holds for this client, it releases when the connection ends, also if this process dies.
    """

    def __init__(self, address: str, what: str, remedy: str, timeout: float | None = None) -> None:
        """Connect to ``what``, which listens on ``address``. Raises NotRunningError with the ``remedy``.

        ``timeout`` is how long to wait for an answer, in seconds; by default Timeout.ANSWER.
        """
        self._what = what
        self._timeout = Timeout.ANSWER.seconds if timeout is None else timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(self._timeout)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise NotRunningError(f"{what} is not running; {remedy}") from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def request(self, do: str, **fields: Any) -> Any:
        """Send one request and return its result. Raises StepError with the other side's reason."""
        for message in self.messages(do, **fields):
            if "result" in message:
                return message["result"]
        raise StepError(f"{self._what}: it ended during request {do!r}")

    def messages(self, do: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """Send one request and yield messages until the connection ends. Raises StepError."""
        try:
            self._socket.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            while line := self._lines.readline():
                message = json.loads(line)
                if "error" in message:
                    raise StepError(f"{self._what}: {message['error']}")
                yield message
        except TimeoutError as error:
            raise StepError(f"{self._what}: no answer to {do} in {self._timeout:.0f} s") from error
        except ConnectionError as error:
            raise StepError(f"{self._what}: it ended during request {do!r}") from error


async def send(writer: asyncio.StreamWriter, **message: Any) -> None:
    """Send one message to a client."""
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[dict[str, Any]], Awaitable[None]],
    failures: tuple[type[Exception], ...] = (),
) -> None:
    """Answer a client's requests in order until it disconnects, then close the connection.

    A disconnection is noticed even during an answer. Errors of bad requests and
    ``failures`` raised by ``answer`` are sent to the client. Clients of other
    users are rejected.
    """
    requests: asyncio.Queue[bytes] = asyncio.Queue(_MAX_REQUESTS)
    expected: tuple[type[Exception], ...] = (ValueError, KeyError, TypeError, OSError, StepError, *failures)

    async def answer_all() -> None:
        while True:
            line = await requests.get()
            try:
                await answer(json.loads(line))
            except expected as error:
                await send(writer, error=str(error) or type(error).__name__)

    answering = asyncio.create_task(answer_all())
    try:
        while _same_user(writer) and (line := await reader.readline()):
            requests.put_nowait(line)
    except (OSError, ValueError, asyncio.QueueFull) as error:
        print(f"a client's connection ends: {error!r}", flush=True)
    finally:
        answering.cancel()
        writer.close()


def _same_user(writer: asyncio.StreamWriter) -> bool:
    """Whether the client is this user or root: abstract sockets have no file permissions (unix(7))."""
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, Path("/proc/self").stat().st_uid)
