"""A client of the control socket, for command lines, keywords and tests; imports nothing of the server but names."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from mock_accel_server.faults import Fault

_MOST_BYTES = 1 << 20


class ControlError(Exception):
    """A request was refused, or the server did not answer; the message says why."""


def request(path: Path, content: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Send one request to the control socket ``path`` and return the answer. ``timeout`` in seconds.

    Raises ControlError.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(json.dumps(content).encode() + b"\n")
            with client.makefile("rb") as lines:
                line = lines.readline(_MOST_BYTES)
    except OSError as error:
        raise ControlError(f"{path}: expected an answer of the device server: {error.strerror or error}") from error
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise ControlError(f"{path}: expected a JSON line as answer, found {line[:100]!r}") from error
    if not isinstance(answer, dict):
        raise ControlError(f"{path}: expected a JSON object as answer, found {line[:100]!r}")
    if "error" in answer:
        raise ControlError(f"{path}: {answer['error']}")
    return answer


def devices(path: Path) -> list[dict[str, Any]]:
    """Name, uuid and kind of each device. Raises ControlError."""
    found: list[dict[str, Any]] = request(path, {"list": True})["devices"]
    return found


def show(path: Path, device: str) -> dict[str, Any]:
    """State, counters and faults of ``device``. Raises ControlError."""
    return request(path, {"device": device, "show": True})


def inject(path: Path, device: str, fault: Fault, **arguments: float | bool) -> None:
    """Cause ``fault``, with ``milliseconds`` (SLOW), ``celsius`` (TEMPERATURE) or ``on`` (WRONG_ID).

    Raises ControlError.
    """
    request(path, {"device": device, "fault": fault.value, **arguments})
