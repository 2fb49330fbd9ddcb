"""Files whose owner can block their users, and messages that carry them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mock_accel_server import protocol
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag
from vfio_user_client import Client

FULL = (1 << 64) - 2
"""The highest value that a write can give an eventfd's counter: eventfd(2)."""
TRIGGER_BY_EVENTFD = protocol.IRQ_SET.pack(
    protocol.IRQ_SET.size, IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1
)
TRIGGER_NOW = protocol.IRQ_SET.pack(
    protocol.IRQ_SET.size, IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_NONE, IrqIndex.ERR, 0, 1
)
ONE_PAGE = protocol.DMA_MAP.pack(protocol.DMA_MAP.size, 3, 0, 0, protocol.PAGE_SIZE)


def half_message(whole: bytes = ONE_PAGE, missing: int = 1) -> bytes:
    """A DMA map without its last bytes."""
    size = protocol.HEADER.size + len(whole)
    return (protocol.HEADER.pack(1, Command.DMA_MAP, size, 0, 0) + whole)[: size - missing]


def trigger_full_eventfd(client: Client) -> int:
    """Assign a full, blocking eventfd, and send a trigger without waiting for the reply. Returns the eventfd."""
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    client.call(Command.DEVICE_SET_IRQS, TRIGGER_BY_EVENTFD, [event])
    os.set_blocking(event, True)
    os.eventfd_write(event, FULL)
    client.send(Command.DEVICE_SET_IRQS, TRIGGER_NOW)
    return event


@contextmanager
def lingering_socket(seconds: int) -> Iterator[socket.socket]:
    """A TCP socket whose last close blocks for ``seconds``, because its peer does not read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        lingering = socket.create_connection(server.getsockname())
        with lingering, server.accept()[0]:
            lingering.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    lingering.send(bytes(1 << 16))
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
            yield lingering
