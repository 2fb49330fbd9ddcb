"""Serve devices of the topology from a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from mock_accel_server.device import Device
from mock_accel_server.registers import Identity
from mock_accel_server.server import Server

from mock_device.topology import Function

_STOP_SECONDS = 10.0


def _device(function: Function) -> Device:
    return Device(Identity(**{field.name: getattr(function, field.name) for field in fields(Identity)}))


@contextmanager
def serving(functions: Iterable[Function], folder: Path) -> Iterator[None]:
    """Serve each function at ``folder/<name>.sock``; at the end the devices die, even if they are plugged."""
    server = Server([(folder / f"{function.name}.sock", _device(function)) for function in functions])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join(_STOP_SECONDS)
        server.close()
