"""Every command except those about interrupts (``test_irqs``), over a real socket."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from mock_accel_server import protocol
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag, RegionIndex
from running_server import PF, Connect, RunningServer
from vfio_user_client import QEMU_CAPABILITIES, Refused, irq_set, version

READ_WRITE = 3
TRIGGER = IrqSetFlag.ACTION_TRIGGER


def dma_map(address: int, size: int, flags: int = 3, offset: int = 0, argsz: int = 32) -> bytes:
    return protocol.DMA_MAP.pack(argsz, flags, offset, address, size)


def dma_unmap(address: int, size: int, flags: int = 0) -> bytes:
    return protocol.DMA_UNMAP.pack(24, flags, address, size)


def test_version_agrees_on_known_capabilities(connect: Connect) -> None:
    client = connect()
    assert client.capabilities == {
        "max_msg_fds": 16,
        "max_data_xfer_size": 1 << 20,
        "max_dma_maps": 65535,
        "pgsizes": 4096,
        "write_multiple": True,
    }
    assert set(client.capabilities) < set(QEMU_CAPABILITIES)


def test_version_without_capabilities(connect: Connect) -> None:
    client = connect(negotiate=False)
    assert client.call(Command.VERSION, struct.pack("=HH", 0, 7)) == struct.pack("=HH", 0, 0)
    assert client.read(0, 4) == b"KCOM"


def test_version_does_not_add_capabilities(connect: Connect) -> None:
    client = connect(negotiate=False)
    answer = client.call(Command.VERSION, version({"pgsizes": 4096, "write_multiple": False}))
    assert answer[4:] == b'{"capabilities": {"pgsizes": 4096}}\0'
    write = protocol.WRITE_COUNT.pack(0)
    assert client.refused(Command.REGION_WRITE_MULTI, write) == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        version(major=1),
        struct.pack("=HH", 0, 0) + b'{"capabilities": {}}',
        struct.pack("=HH", 0, 0) + b"{\0",
        struct.pack("=HH", 0, 0) + b"\xff\0",
        struct.pack("=HH", 0, 0) + b"[" * 4000 + b"\0",
        struct.pack("=HH", 0, 0) + b"1" * 4095 + b"\0",
        struct.pack("=HH", 0, 0) + b"[]\0",
        struct.pack("=HH", 0, 0) + b" " * 5000 + b"\0",
        version([]),
        version({"max_msg_fds": "many"}),
        version({"max_msg_fds": True}),
        version({"pgsizes": -1}),
        version({"write_multiple": 1}),
    ],
)
def test_bad_version_ends_the_connection(connect: Connect, payload: bytes) -> None:
    client = connect(negotiate=False)
    with pytest.raises(Refused) as caught:
        client.call(Command.VERSION, payload)
    assert caught.value.number == errno.EINVAL
    assert client.at_end()


def test_version_comes_first_and_once(connect: Connect) -> None:
    early = connect(negotiate=False)
    with pytest.raises(Refused):
        early.call(Command.DEVICE_RESET)
    assert early.at_end()
    assert connect().refused(Command.VERSION, version()) == errno.EINVAL


def test_device_info(connect: Connect) -> None:
    client = connect()
    answer = client.call(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0))
    assert protocol.DEVICE_INFO.unpack(answer) == (16, 0b11, 9, 5)
    assert client.refused(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(15, 0, 0, 0)) == errno.EINVAL


@pytest.mark.parametrize("index", range(9))
def test_region_info(connect: Connect, index: int) -> None:
    answer = connect().call(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, index, 0, 0, 0))
    size = {0: 4096, 2: PF.window, 7: 4096}.get(index, 0)
    can_be_mapped = index == RegionIndex.BAR2  # needs more space for the reply, see test_window.py
    expected = (64 if can_be_mapped else 32, 7 if can_be_mapped else READ_WRITE if size else 0, index, 0, size, 0)
    assert protocol.REGION_INFO.unpack(answer) == expected


@pytest.mark.parametrize("number", [0xFFFFFFFF, 9])
def test_unknown_indexes_are_refused(connect: Connect, number: int) -> None:
    client = connect()
    region = protocol.REGION_INFO.pack(32, 0, number, 0, 0, 0)
    assert client.refused(Command.DEVICE_GET_REGION_INFO, region) == errno.EINVAL
    assert client.refused(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, number, 0)) == errno.EINVAL
    assert client.refused(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, number, 4)) == errno.EINVAL
    assert client.refused(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | 1, number, 0, 0)) == errno.EINVAL


@pytest.mark.parametrize(
    "command",
    [
        0,
        Command.DEVICE_GET_REGION_IO_FDS,
        Command.DMA_READ,
        Command.DMA_WRITE,
        14,
        Command.DEVICE_FEATURE,
        Command.MIG_DATA_READ,
        Command.MIG_DATA_WRITE,
        0xFFFF,
    ],
)
def test_other_commands_are_not_supported(connect: Connect, command: int) -> None:
    assert connect().refused(command, bytes(32)) == errno.EOPNOTSUPP


@pytest.mark.parametrize("command", [c for c in Command if c not in (Command.VERSION, Command.REGION_WRITE_MULTI)])
@pytest.mark.parametrize("size", [1, 7, 15, 19, 33, 4096])
def test_wrong_payload_sizes_are_refused(connect: Connect, command: Command, size: int) -> None:
    assert connect().refused(command, b"\x01" * size)


def test_dma_table(connect: Connect, running: RunningServer) -> None:
    client = connect()
    memory = os.memfd_create("ram")
    os.ftruncate(memory, 1 << 20)
    try:
        client.call(Command.DMA_MAP, dma_map(0, 0x1000), [memory])
        client.call(Command.DMA_MAP, dma_map(0x3000, 0x2000), [memory])
        client.call(Command.DMA_MAP, dma_map(0x1000, 0x2000, flags=1))
        client.call(Command.DMA_MAP, dma_map((1 << 64) - 0x1000, 0x1000), [memory])
        for address, size in [(0, 0x1000), (0x1000, 0x1000), (0x4000, 0x1000), (0x4000, 0x8000), (0x2000, 0x1000)]:
            assert client.refused(Command.DMA_MAP, dma_map(address, size), [memory]) == errno.EEXIST
        for bad in [
            dma_map(0x10000, 0),
            dma_map(0x10001, 0x1000),
            dma_map(0x10000, 0x1001),
            dma_map(0x10000, (1 << 64) - 0x1000),
            dma_map(0x10000, 0x1000, flags=4),
            dma_map(0x10000, 0x1000, argsz=31),
        ]:
            assert client.refused(Command.DMA_MAP, bad, [memory]) == errno.EINVAL
        assert client.refused(Command.DMA_MAP, dma_map(0x10000, 0x1000), [memory, memory]) == errno.EINVAL
        assert client.call(Command.DMA_UNMAP, dma_unmap(0x1000, 0x2000)) == dma_unmap(0x1000, 0x2000)
        assert client.refused(Command.DMA_UNMAP, dma_unmap(0x1000, 0x2000)) == errno.ENOENT
        assert client.refused(Command.DMA_UNMAP, dma_unmap(0x3000, 0x1000)) == errno.ENOENT
        assert client.refused(Command.DMA_UNMAP, dma_unmap(0, 0x1000, flags=1)) == errno.EINVAL
        client.call(Command.DMA_UNMAP, dma_unmap(0, 0, flags=protocol.DMA_UNMAP_ALL))
        client.call(Command.DMA_MAP, dma_map(0, 0x10000), [memory])
    finally:
        os.close(memory)


def test_reset_frees_the_device(connect: Connect) -> None:
    client = connect()
    client.set_status(1)
    client.write_config(0x04, 2, 0x0006)
    client.write_config(0x10, 4, 0xFEBF0000)
    assert client.call(Command.DEVICE_RESET) == b""
    assert (client.status, client.config(0x04, 2), client.config(0x10, 4)) == (0, 0, 0)


def test_write_multi(connect: Connect) -> None:
    client = connect()

    def writes(*items: tuple[int, int, int, bytes], number: int | None = None) -> bytes:
        packed = b"".join(protocol.SINGLE_WRITE.pack(*item) for item in items)
        return protocol.WRITE_COUNT.pack(len(items) if number is None else number) + packed

    status = (0x2C, RegionIndex.BAR0, 4, b"\1\0\0\0")
    command = (0x04, RegionIndex.CONFIG, 2, b"\6\0")
    assert client.call(Command.REGION_WRITE_MULTI, writes(status, command)) == protocol.WRITE_COUNT.pack(2)
    assert (client.status, client.config(0x04, 2)) == (1, 6)
    client.set_status(0)
    for bad in [
        writes(status, (4095, RegionIndex.BAR0, 2, b"")),
        writes(status, (0, RegionIndex.BAR0, 9, b"")),
        writes(status, number=2),
        writes(status, number=(1 << 64) - 1),
        writes(status)[:-1],
        b"",
    ]:
        assert client.refused(Command.REGION_WRITE_MULTI, bad) == errno.EINVAL
        assert client.status == 0


def test_pipelined_commands_and_commands_without_reply(connect: Connect) -> None:
    client = connect()
    fixed = protocol.REGION_ACCESS.pack(0x2C, RegionIndex.BAR0, 4)
    client.send(Command.REGION_WRITE, fixed + b"\1\0\0\0", flags=protocol.NO_REPLY)
    client.send(Command.DMA_READ, flags=protocol.NO_REPLY)
    ids = [client.send(Command.REGION_READ, fixed) for _ in range(100)]
    replies = [client.receive() for _ in ids]
    assert [reply.message_id for reply in replies] == ids
    assert {reply.payload for reply in replies} == {fixed + b"\1\0\0\0"}


def test_pipelined_file_descriptors_belong_to_their_message(connect: Connect, running: RunningServer) -> None:
    """QEMU sends DMA maps without waiting for replies; a refused one must not consume its neighbour's file."""
    client = connect()
    event, memory = os.eventfd(0, os.EFD_NONBLOCK), os.memfd_create("ram")
    os.ftruncate(memory, 0x1000)
    try:
        client.send(Command.DMA_MAP, dma_map(0, 0x1000))
        client.send(Command.DMA_MAP, dma_map(0x1000, 0x1000), [memory])
        client.send(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | 4, IrqIndex.ERR, 0, 1), [event])
        client.send(Command.DMA_MAP, dma_map(0, 0x1000), [memory])
        client.send(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | 1, IrqIndex.ERR, 0, 1))
        assert [client.receive().error for _ in range(5)] == [0, 0, 0, errno.EEXIST, 0]
        assert os.eventfd_read(event) == 1
    finally:
        os.close(event)
        os.close(memory)
