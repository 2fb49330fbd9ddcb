"""Fixtures: a running server and its clients."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for running_server, vfio_user_client

from mock_accel_server.device import Device
from running_server import PF, SECRET, VF, Connect, RunningServer
from vfio_user_client import Client


def pytest_itemcollected(item: pytest.Item) -> None:
    """An error in a client's thread fails the test."""
    item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sockets, with a short name: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def running(folder: Path) -> Iterator[RunningServer]:
    """A PF at ``folder/pf.sock`` and a VF at ``folder/vf.sock``; fails the test if the server died."""
    devices = [(folder / "pf.sock", Device(PF, SECRET)), (folder / "vf.sock", Device(VF, SECRET))]
    server = RunningServer(devices)
    yield server
    survived = server.alive
    server.stop()
    assert survived, "the server died"


@pytest.fixture
def connect(folder: Path, running: RunningServer) -> Iterator[Connect]:
    """Function that connects to the PF, or to another socket of ``folder`` by name; clients are closed at the end."""
    with ExitStack() as stack:

        def connected(name: str = "pf.sock", *, negotiate: bool = True) -> Client:
            return stack.enter_context(Client(folder / name, negotiate=negotiate))

        yield connected
