"""Device memory: BAR2 by messages and by a mapping."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from mock_accel_server import protocol
from mock_accel_server.device import Device
from mock_accel_server.protocol import Command, RegionIndex
from mock_accel_server.window import Window
from running_server import PF, Connect, RunningServer, wait_until
from vfio_user_client import Client

SIZE = PF.window
INFO = protocol.REGION_INFO.size
FULL = INFO + protocol.SPARSE_MMAP.size


def region_info(client: Client, argsz: int, region: int = RegionIndex.BAR2) -> tuple[bytes, list[int]]:
    """The reply's payload and its descriptors."""
    request = protocol.REGION_INFO.pack(argsz, 0, region, 0, 0, 0)
    client.send(Command.DEVICE_GET_REGION_INFO, request.ljust(argsz, b"\0"))
    data, fds, _, _ = socket.recv_fds(client.socket, protocol.HEADER.size + FULL, 4)
    return data[protocol.HEADER.size :], list(fds)


@contextmanager
def mapping(client: Client) -> Iterator[mmap.mmap]:
    _, (fd,) = region_info(client, FULL)
    try:
        with mmap.mmap(fd, SIZE) as mapped:
            yield mapped
    finally:
        os.close(fd)


def test_region_info_has_the_mapping(connect: Connect) -> None:
    answer, fds = region_info(connect(), FULL)
    assert protocol.REGION_INFO.unpack(answer[:INFO]) == (FULL, 0b1111, 2, INFO, SIZE, 0)
    assert protocol.SPARSE_MMAP.unpack(answer[INFO:]) == (1, 1, 0, 1, 0, 0, SIZE)
    (fd,) = fds
    assert os.fstat(fd).st_size == SIZE
    os.close(fd)


@pytest.mark.parametrize("argsz", [INFO, FULL - 1])
def test_region_info_says_how_much_space_it_needs(connect: Connect, argsz: int) -> None:
    answer, fds = region_info(connect(), argsz)
    assert protocol.REGION_INFO.unpack(answer) == (FULL, 0b0111, 2, 0, SIZE, 0)
    assert fds == []


@pytest.mark.parametrize("region", [RegionIndex.BAR0, RegionIndex.CONFIG, 1, 3])
def test_other_regions_have_no_mapping(connect: Connect, region: int) -> None:
    """A device that is gone must not answer with old registers."""
    answer, fds = region_info(connect(), FULL, region)
    assert len(answer) == INFO
    assert not protocol.REGION_INFO.unpack(answer)[1] & 0b1100
    assert fds == []


def test_descriptor_belongs_to_its_reply(connect: Connect) -> None:
    """Of several replies in a row, the right one has it."""
    client = connect()
    request = protocol.REGION_INFO.pack(FULL, 0, 2, 0, 0, 0)
    for _ in range(3):
        client.send(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 0, 4))
        client.send(Command.DEVICE_GET_REGION_INFO, request)
        client.send(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 0, 4))
    numbers = []
    for _ in range(3):
        for size in (20, FULL, 20):
            data = b""
            fds: list[int] = []
            while len(data) < protocol.HEADER.size + size:
                part, some, _, _ = socket.recv_fds(client.socket, protocol.HEADER.size + size - len(data), 4)
                data += part
                fds += some
            numbers.append(len(fds))
            for fd in fds:
                os.close(fd)
    assert numbers == [0, 1, 0] * 3


def test_messages_and_mapping_are_the_same_memory(connect: Connect) -> None:
    client = connect()
    with mapping(client) as mapped:
        client.write(5, b"message", RegionIndex.BAR2)
        assert mapped[5:12] == b"message"
        mapped[SIZE - 4 :] = b"last"
        assert client.read(SIZE - 4, 4, RegionIndex.BAR2) == b"last"


def test_access_out_of_range_is_refused(connect: Connect) -> None:
    client = connect()
    for offset, count in ((SIZE, 1), (SIZE - 1, 2), (1 << 63, 4)):
        access = protocol.REGION_ACCESS.pack(offset, RegionIndex.BAR2, count)
        assert client.refused(Command.REGION_READ, access) == errno.EINVAL
        assert client.refused(Command.REGION_WRITE, access + bytes(count)) == errno.EINVAL


def test_reset_clears_the_mapped_window(connect: Connect) -> None:
    client = connect()
    with mapping(client) as mapped:
        mapped[:] = b"\xff" * SIZE
        client.call(Command.DEVICE_RESET)
        assert mapped[:] == bytes(SIZE)
        mapped[0] = 7
        assert client.read(0, 1, RegionIndex.BAR2) == b"\7", "it is still the same memory"


def test_file_cannot_be_changed(connect: Connect) -> None:
    """A shorter file would kill others that map it, and a write seal the device's writes."""
    _, (fd,) = region_info(connect(), FULL)
    try:
        for size in (0, SIZE + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(
                fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_FUTURE_WRITE if hasattr(fcntl, "F_SEAL_FUTURE_WRITE") else 16
            )
    finally:
        os.close(fd)


def test_flags_of_the_clients_descriptor_change_nothing(connect: Connect) -> None:
    client = connect()
    _, (fd,) = region_info(client, FULL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        client.write(0, b"abcd", RegionIndex.BAR2)
        assert client.read(0, 4, RegionIndex.BAR2) == b"abcd"
    finally:
        os.close(fd)


def test_next_client_gets_another_window(connect: Connect, folder: Path, running: RunningServer) -> None:
    """The last client may still map its own, so it must not see the next one's data."""
    with Client(folder / "pf.sock") as first, mapping(first) as old:
        first.write(0, b"first", RegionIndex.BAR2)
        first.socket.close()
        wait_until(lambda: not running.devices[0].connected)
        second = connect()
        assert second.read(0, 5, RegionIndex.BAR2) == bytes(5)
        with mapping(second) as new:
            new[:6] = b"second"
            assert old[:6] == b"first\0"


def test_an_unused_window_takes_no_file() -> None:
    window = Window(4096)
    before = open_fds()
    assert window.read(0, 4096) == bytes(4096)
    window.clear()
    window.write(0, b"")
    assert open_fds() == before
    window.write(4095, b"x")
    assert window.read(4094, 2) == b"\0x"
    window.close()
    assert window.read(4095, 1) == b"\0"
    assert open_fds() == before


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_size_is_that_of_the_identity() -> None:
    device = Device(replace(PF, window=1 << 14))
    assert device.region_size(RegionIndex.BAR2) == 1 << 14
    assert device.read(RegionIndex.BAR0, 0x54, 4) == (1 << 14).to_bytes(4, "little")
