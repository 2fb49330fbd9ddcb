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

SECRET = b"the secret of these tests"
"""With which the devices sign."""
_STOP_SECONDS = 10.0


def _device(function: Function) -> Device:
    return Device(Identity(**{field.name: getattr(function, field.name) for field in fields(Identity)}), SECRET)


@contextmanager
def serving(functions: Iterable[Function], folder: Path) -> Iterator[dict[str, Device]]:
    """Serve each function at ``folder/<name>.sock``; at the end the devices die, even if they are plugged.

    Yields the devices by name.
    """
    devices = {function.name: _device(function) for function in functions}
    server = Server([(folder / f"{name}.sock", device) for name, device in devices.items()])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield devices
    finally:
        server.stop()
        thread.join(_STOP_SECONDS)
        server.close()
