"""Commands about interrupts, over a real socket."""

from __future__ import annotations

import errno
import os

import pytest
from mock_accel_server import protocol
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag
from running_server import Connect
from vfio_user_client import irq_set

TRIGGER = IrqSetFlag.ACTION_TRIGGER


def test_irq_info_has_those_of_the_device(connect: Connect) -> None:
    client = connect()
    counts = {}
    for index in IrqIndex:
        answer = client.call(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, index, 0))
        argsz, flags, same, count = protocol.IRQ_INFO.unpack(answer)
        assert (argsz, flags & 1, same) == (16, 1, index)
        counts[index.name] = count
    assert counts == {"INTX": 0, "MSI": 2, "MSIX": 0, "ERR": 1, "REQ": 1}


def test_irqs_can_be_set_triggered_and_removed(connect: Connect) -> None:
    client = connect()
    event = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1), [event])
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1))
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_BOOL, IrqIndex.ERR, 0, 1, b"\1"))
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_BOOL, IrqIndex.ERR, 0, 1, b"\0"))
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.REQ, 0, 1))
        assert os.eventfd_read(event) == 2
        for drop in [
            irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 0),
            irq_set(TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1),
        ]:
            setup = irq_set(TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1)
            client.call(Command.DEVICE_SET_IRQS, setup, [event])
            client.call(Command.DEVICE_SET_IRQS, drop)
            client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1))
            with pytest.raises(BlockingIOError):
                os.eventfd_read(event)
    finally:
        os.close(event)


def test_vectors_can_be_set_one_by_one(connect: Connect) -> None:
    """As QEMU does when a guest enables, masks and unmasks vectors."""
    client = connect()
    events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    assign, trigger = TRIGGER | IrqSetFlag.DATA_EVENTFD, TRIGGER | IrqSetFlag.DATA_NONE
    try:
        client.call(Command.DEVICE_SET_IRQS, irq_set(assign, IrqIndex.MSI, 1, 1), events[1:])
        client.call(Command.DEVICE_SET_IRQS, irq_set(trigger, IrqIndex.MSI, 0, 2))
        client.call(Command.DEVICE_SET_IRQS, irq_set(assign, IrqIndex.MSI, 0, 2), events)
        client.call(Command.DEVICE_SET_IRQS, irq_set(trigger, IrqIndex.MSI, 0, 1))
        client.call(Command.DEVICE_SET_IRQS, irq_set(assign, IrqIndex.MSI, 0, 1))
        client.call(Command.DEVICE_SET_IRQS, irq_set(trigger, IrqIndex.MSI, 0, 2))
        assert [os.eventfd_read(event) for event in events] == [1, 2]
        too_many = irq_set(assign, IrqIndex.MSI, 1, 2)
        assert client.refused(Command.DEVICE_SET_IRQS, too_many, events) == errno.EINVAL
    finally:
        for event in events:
            os.close(event)


def test_a_full_eventfd_does_not_block_the_server(connect: Connect) -> None:
    client = connect()
    event = os.eventfd((1 << 32) - 1)  # a blocking one
    try:
        os.eventfd_write(event, (1 << 64) - 2 - ((1 << 32) - 1))
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.REQ, 0, 1), [event])
        client.call(Command.DEVICE_SET_IRQS, irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.REQ, 0, 1))
    finally:
        os.close(event)


@pytest.mark.parametrize(
    "payload",
    [
        irq_set(TRIGGER, IrqIndex.ERR, 0, 1),
        irq_set(IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1),
        irq_set(TRIGGER | 3, IrqIndex.ERR, 0, 1),
        irq_set(TRIGGER | IrqSetFlag.ACTION_MASK | 1, IrqIndex.ERR, 0, 1),
        irq_set(TRIGGER | 1 | 1 << 6, IrqIndex.ERR, 0, 1),
        irq_set(IrqSetFlag.ACTION_MASK | 1, IrqIndex.ERR, 0, 1),
        irq_set(IrqSetFlag.ACTION_UNMASK | 1, IrqIndex.INTX, 0, 1),
        irq_set(TRIGGER | 1, IrqIndex.MSIX, 0, 1),
        irq_set(TRIGGER | 1, IrqIndex.ERR, 1, 1),
        irq_set(TRIGGER | 1, IrqIndex.ERR, 0, 2),
        irq_set(TRIGGER | 1, IrqIndex.ERR, 0xFFFFFFFF, 0xFFFFFFFF),
        irq_set(TRIGGER | 1, IrqIndex.ERR, 1, 0),
        irq_set(TRIGGER | 2, IrqIndex.ERR, 0, 0),
        irq_set(TRIGGER | 2, IrqIndex.ERR, 0, 1),
        irq_set(TRIGGER | 2, IrqIndex.ERR, 0, 1, b"\1\1"),
        irq_set(TRIGGER | 1, IrqIndex.ERR, 0, 1, b"\1"),
        irq_set(TRIGGER | 4, IrqIndex.ERR, 0, 1, bytes(4)),
        protocol.IRQ_SET.pack(19, TRIGGER | 1, IrqIndex.ERR, 0, 1),
    ],
)
def test_bad_irq_settings_are_refused(connect: Connect, payload: bytes) -> None:
    assert connect().refused(Command.DEVICE_SET_IRQS, payload) == errno.EINVAL


def test_bad_irq_file_descriptors_are_refused(connect: Connect) -> None:
    client = connect()
    event, memory = os.eventfd(0), os.memfd_create("ram")
    setup = irq_set(TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1)
    try:
        assert client.refused(Command.DEVICE_SET_IRQS, setup, [memory]) == errno.EINVAL
        assert client.refused(Command.DEVICE_SET_IRQS, setup, [event, event]) == errno.EINVAL
        plain = irq_set(TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1)
        assert client.refused(Command.DEVICE_SET_IRQS, plain, [event]) == errno.EINVAL
        assert client.refused(Command.DEVICE_RESET, b"", [event]) == errno.EINVAL
    finally:
        os.close(event)
        os.close(memory)
