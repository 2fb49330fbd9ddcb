"""Fixtures: a server in a thread of its own, and its clients."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for vfio_user_client

from mock_accel_server.device import Device
from mock_accel_server.registers import Identity
from mock_accel_server.server import Server
from vfio_user_client import Client

PF = Identity("mock0", "NODE1-NUMA0-PF", 16 << 30, 0b0111, total_vfs=2, multifunction=True)
VF = Identity("mock0_vf0", "NODE1-NUMA0-VF0", 2 << 30, 0b0011, is_vf=True, multifunction=True)
_JOIN_SECONDS = 10.0

Connect = Callable[..., Client]


class RunningServer:
    """A server whose ``run`` runs in a thread."""

    def __init__(self, devices: list[tuple[Path, Device]], handshake_seconds: float = 10.0) -> None:
        self.devices = [device for _, device in devices]
        self.server = Server(devices, handshake_seconds)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it and its sockets; fails when its thread does not end."""
        if self.alive:
            self.server.stop()
        self._thread.join(_JOIN_SECONDS)
        assert not self.alive
        self.server.close()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sockets, with a short name: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def running(folder: Path) -> Iterator[RunningServer]:
    """A PF at ``folder/pf.sock`` and a VF at ``folder/vf.sock``; fails the test when the server died."""
    server = RunningServer([(folder / "pf.sock", Device(PF)), (folder / "vf.sock", Device(VF))])
    yield server
    survived = server.alive
    server.stop()
    assert survived, "the server died"


@pytest.fixture
def connect(folder: Path, running: RunningServer) -> Iterator[Connect]:
    """Connects to the PF, or to another socket of ``folder`` by name; closes all clients at the end."""
    with ExitStack() as stack:

        def connected(name: str = "pf.sock", *, negotiate: bool = True) -> Client:
            return stack.enter_context(Client(folder / name, negotiate=negotiate))

        yield connected
