"""Conformance to QEMU's docs/interop/vfio-user.rst: limits, numbers, and fields of requests."""

from __future__ import annotations

import errno
import json
import struct
from dataclasses import replace

import pytest
from mock_accel_server import protocol
from mock_accel_server.device import Device
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag, RefusedError
from mock_accel_server.session import Session
from running_server import PF, Connect
from vfio_user_client import Client, Refused, version

TRIGGER = IrqSetFlag.ACTION_TRIGGER
DEFAULT_MAX_DMA_MAPS = 65535


def map_pages(client: Client, count: int) -> list[int]:
    """Map single pages with gaps, without waiting for each reply; returns all errors."""
    errors = []
    for start in range(0, count, 100):
        numbers = range(start, min(start + 100, count))
        for number in numbers:
            client.send(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, number << 13, 0x1000))
        errors += [client.receive().error for _ in numbers]
    return errors


def test_default_limit_of_dma_maps(connect: Connect) -> None:
    client = connect(negotiate=False)
    client.call(Command.VERSION, struct.pack("=HH", 0, 0))
    assert map_pages(client, DEFAULT_MAX_DMA_MAPS) == [0] * DEFAULT_MAX_DMA_MAPS
    assert client.refused(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 1 << 40, 0x1000)) == errno.ENOSPC
    overlapping = protocol.DMA_MAP.pack(32, 3, 0, 0, 0x1000)
    assert client.refused(Command.DMA_MAP, overlapping) == errno.EEXIST
    client.call(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, 0, 0x1000))
    client.call(Command.DMA_MAP, overlapping)


@pytest.mark.parametrize("size", [4097, 100_000, protocol.MAX_DATA_XFER_SIZE])
def test_version_data_may_fill_a_message(connect: Connect, size: int) -> None:
    client = connect(negotiate=False)
    data = json.dumps({"capabilities": {"pgsizes": 4096}, "more": ""}).encode()
    data = data.replace(b'""', b'"' + b"x" * (size - len(data) - 1) + b'"') + b"\0"
    assert len(data) == size
    answer = client.call(Command.VERSION, struct.pack("=HH", 0, 0) + data)
    assert json.loads(answer[4:-1]) == {"capabilities": {"pgsizes": 4096}}


@pytest.mark.parametrize("number", ["8.0", "1e6", "0", "-0.0", "1E+2", "12345678901234567890"])
def test_numbers_are_integers_by_value(connect: Connect, number: str) -> None:
    client = connect(negotiate=False)
    data = b'{"capabilities": {"max_msg_fds": %s}}\0' % number.encode()
    answer = client.call(Command.VERSION, struct.pack("=HH", 0, 0) + data)
    assert json.loads(answer[4:-1]) == {"capabilities": {"max_msg_fds": 16}}


@pytest.mark.parametrize(
    "number", ["8.5", "-1", "-1.0", "1e999", "NaN", "Infinity", '"8"', "true", "null", "[8]", "1e", "9" * 5000]
)
def test_invalid_number_ends_the_connection(connect: Connect, number: str) -> None:
    client = connect(negotiate=False)
    data = b'{"capabilities": {"max_msg_fds": %s}}\0' % number.encode()
    with pytest.raises(Refused) as caught:
        client.call(Command.VERSION, struct.pack("=HH", 0, 0) + data)
    assert caught.value.number == errno.EINVAL
    assert client.at_end()


@pytest.mark.parametrize("argsz", [0, 19, 21, 24, 1 << 20])
def test_argsz_of_set_irqs_is_the_size_of_the_request(connect: Connect, argsz: int) -> None:
    payload = protocol.IRQ_SET.pack(argsz, TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1)
    assert connect().refused(Command.DEVICE_SET_IRQS, payload) == errno.EINVAL


@pytest.mark.parametrize("argsz", [20, 22])
def test_argsz_of_set_irqs_includes_its_data(connect: Connect, argsz: int) -> None:
    payload = protocol.IRQ_SET.pack(argsz, TRIGGER | IrqSetFlag.DATA_BOOL, IrqIndex.ERR, 0, 1) + b"\0"
    assert connect().refused(Command.DEVICE_SET_IRQS, payload) == errno.EINVAL


@pytest.mark.parametrize("argsz", [0, 31, 33, 1 << 20])
def test_argsz_of_dma_map_is_the_size_of_the_request(connect: Connect, argsz: int) -> None:
    assert connect().refused(Command.DMA_MAP, protocol.DMA_MAP.pack(argsz, 3, 0, 0, 0x1000)) == errno.EINVAL


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 1, 0, 0)),
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 9, 0)),
        (Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 5)),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 1, 0, 0, 0, 0)),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, 0, 32, 0, 0)),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, 0, 0, 4096, 0)),
        (Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, 0, 0, 0, 1)),
        (Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 1, 0, 0)),
        (Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, 0, 1)),
    ],
)
def test_fields_that_must_be_zero(connect: Connect, command: Command, payload: bytes) -> None:
    assert connect().refused(command, payload) == errno.EINVAL


@pytest.mark.parametrize(("argsz", "size"), [(32, 80), (64, 64), (80, 80), (1 << 20, 32), (80, 4096)])
def test_region_info_may_leave_room_for_capabilities(connect: Connect, argsz: int, size: int) -> None:
    """The reply has no capabilities, and its argsz is its real size."""
    request = protocol.REGION_INFO.pack(argsz, 0, 0, 0, 0, 0).ljust(size, b"\0")
    answer = connect().call(Command.DEVICE_GET_REGION_INFO, request)
    assert protocol.REGION_INFO.unpack(answer) == (32, 3, 0, 0, 4096, 0)


def test_a_read_is_at_most_max_data_xfer_size() -> None:
    """Section ``VFIO_USER_VERSION``: also of a window that is larger."""
    session = Session(Device(replace(PF, window=4 << 20)))
    session.handle(Command.VERSION, version(), [])
    largest = protocol.REGION_ACCESS.pack(4096, 2, protocol.MAX_DATA_XFER_SIZE)
    assert len(session.handle(Command.REGION_READ, largest, [])) == 16 + protocol.MAX_DATA_XFER_SIZE
    with pytest.raises(RefusedError, match="expected a read of at most 1048576 bytes, found 1048577"):
        session.handle(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 2, protocol.MAX_DATA_XFER_SIZE + 1), [])
    session.close()


@pytest.mark.parametrize(
    ("command", "layout"),
    [(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO), (Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO)],
)
def test_other_infos_may_leave_room(connect: Connect, command: Command, layout: struct.Struct) -> None:
    """struct vfio_device_info of linux/vfio.h has grown, so a client may send a longer one."""
    answer = connect().call(command, struct.pack("=I", 24).ljust(24, b"\0"))
    assert layout.unpack(answer)[0] == layout.size


@pytest.mark.parametrize(("address", "size"), [(0x1000, 0), (0, 0x1000), (0x1000, 0x1000)])
def test_unmap_all_has_no_range(connect: Connect, address: int, size: int) -> None:
    client = connect()
    client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 0x1000, 0x1000))
    everything = protocol.DMA_UNMAP.pack(24, protocol.DMA_UNMAP_ALL, address, size)
    assert client.refused(Command.DMA_UNMAP, everything) == errno.EINVAL
    client.call(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, 0x1000, 0x1000))


def test_log_line_about_a_long_bad_version_is_short(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    client = connect(negotiate=False)
    with pytest.raises(Refused):
        client.call(Command.VERSION, version({"max_msg_fds": "x" * 100_000}))
    assert client.at_end()
    assert all(len(record.getMessage()) < 500 for record in caplog.records)
