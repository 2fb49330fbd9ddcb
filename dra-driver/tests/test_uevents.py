"""Kernel events about mock accelerators wake the agent; other datagrams do not."""

from __future__ import annotations

import errno
import io
import socket
import threading

import pytest
from mock_accel_dra import uevents
from mock_accel_dra.uevents import Uevent, parse

ADD = b"add@/devices/pci0000:10/0000:11:00.0/mock-accel/mock0\0ACTION=add\0SUBSYSTEM=mock-accel\0SEQNUM=1\0"
CHANGE = ADD.replace(b"add", b"change")
OTHER = b"add@/devices/virtual/net/veth0\0ACTION=add\0SUBSYSTEM=net\0"


def test_parse() -> None:
    assert parse(ADD) == Uevent("add", "/devices/pci0000:10/0000:11:00.0/mock-accel/mock0", "mock-accel")
    assert parse(OTHER) == Uevent("add", "/devices/virtual/net/veth0", "net")
    assert parse(b"libudev\0\xfe\xed\xca\xfe") is None
    assert parse(b"") is None


class FakeSocket:
    """Delivers ``received``, then times out and stops the listener."""

    def __init__(self, stop: threading.Event, *received: tuple[bytes, int] | OSError) -> None:
        self.stop = stop
        self.received = list(received)
        self.closed = False

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        if not self.received:
            self.stop.set()
            raise TimeoutError
        item = self.received.pop(0)
        if isinstance(item, OSError):
            raise item
        return item[0], (item[1], 1)

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("received", "wakes"),
    [
        ([(ADD, 0)], [None]),
        ([(CHANGE, 0)], ["mock0"]),
        ([(OTHER, 0)], []),
        ([(CHANGE, 4711)], []),  # a process, not the kernel
        ([OSError(errno.ENOBUFS, "lost")], [None]),
        ([OSError(errno.ENOBUFS, "lost"), (CHANGE, 0)], [None, "mock0"]),
    ],
)
def test_listen(received: list[tuple[bytes, int] | OSError], wakes: list[str | None]) -> None:
    stop, calls = threading.Event(), list[str | None]()
    fake = FakeSocket(stop, *received)
    uevents.listen(fake, calls.append, stop)  # type: ignore[arg-type]
    assert calls == wakes
    assert fake.closed


def test_an_end_of_events_is_logged(log: io.StringIO) -> None:
    stop = threading.Event()
    uevents.listen(FakeSocket(stop, OSError(errno.EBADF, "closed")), lambda _: None, stop)  # type: ignore[arg-type]
    assert "Kernel events end" in log.getvalue()


def test_the_real_socket_can_be_opened() -> None:
    with uevents.open_socket() as receiver:
        assert receiver.family == socket.AF_NETLINK
