"""A client's side of a cluster's supervisor: one JSON object a line, each way."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from lab.artifacts import StepError
from lab.spec import control_address

_ANSWER_TIMEOUT_SECONDS = 120.0


class NoClusterError(StepError):
    """No supervisor answers for that cluster."""


class Control:
    """Connection to a supervisor. What it holds is given back when it closes, also by the death of this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_ANSWER_TIMEOUT_SECONDS)
        try:
            self._socket.connect(control_address(name))
        except OSError as error:
            self._socket.close()
            raise NoClusterError(f"cluster {name!r} is not running; start it with: lab up --name {name}") from error
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
        """Send one request and return its result. Raises StepError with the supervisor's reason."""
        for message in self._exchange(do, fields):
            if "result" in message:
                return message["result"]
        raise StepError(f"cluster {self.name!r}: its supervisor ended while it was asked to {do}")

    def follow(self) -> Iterator[dict[str, Any]]:
        """Events of the cluster's start; the last one has ``state`` (``running``, ``failed``) and ``reason``."""
        for message in self._exchange("follow", {}):
            if "result" in message:
                yield message["result"]
                return
            yield message["event"]
        raise StepError(f"cluster {self.name!r}: its supervisor ended while it started")

    def _exchange(self, do: str, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            self._socket.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
            while line := self._lines.readline():
                message = json.loads(line)
                if "error" in message:
                    raise StepError(f"cluster {self.name!r}: {message['error']}")
                yield message
        except TimeoutError as error:
            raise StepError(f"cluster {self.name!r}: no answer to {do} in {_ANSWER_TIMEOUT_SECONDS:.0f} s") from error
        except ConnectionError as error:
            raise StepError(f"cluster {self.name!r}: its supervisor ended while it was asked to {do}") from error
