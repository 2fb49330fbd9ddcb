"""A server in a background thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mock_accel_server.connection import TimeLimits
from mock_accel_server.device import Device
from mock_accel_server.registers import Identity
from mock_accel_server.server import Server
from vfio_user_client import Client

PF = Identity("mock0", "NODE1-NUMA0-PF", 16 << 30, 0b0111, total_vfs=2, multifunction=True)
VF = Identity("mock0_vf0", "NODE1-NUMA0-VF0", 2 << 30, 0b0011, is_vf=True, multifunction=True)
SECRET = b"secret of the server"
_JOIN_SECONDS = 10.0
_DEADLINE_SECONDS = 10.0

Connect = Callable[..., Client]


class RunningServer:
    """A server whose ``run`` runs in a thread."""

    def __init__(self, devices: list[tuple[Path, Device]], limits: TimeLimits | None = None) -> None:
        self.devices = [device for _, device in devices]
        self.server = Server(devices, limits or TimeLimits())
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop the server and remove its sockets; fails if its thread does not end."""
        if self.alive:
            self.server.stop()
        self._thread.join(_JOIN_SECONDS)
        assert not self.alive
        self.server.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()`` is true. Raises AssertionError."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"expected within {_DEADLINE_SECONDS:.0f} s"
        time.sleep(0.005)
