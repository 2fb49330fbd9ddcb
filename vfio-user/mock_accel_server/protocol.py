"""Messages of the vfio-user protocol.

Source: QEMU documentation, docs/interop/vfio-user.rst ("vfio-user Protocol
Specification"); the sections are named below. All fields are little-endian, as
the hosts that this runs on.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from errno import EINVAL
from typing import Any


class Command(IntEnum):
    """Section "Commands"."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15


class Flag(IntFlag):
    """Section "Header": type in bits 0 to 3, then single bits."""

    REPLY = 1
    NO_REPLY = 1 << 4
    ERROR = 1 << 5


_TYPE_MASK = 0xF
HEADER = struct.Struct("<HHIII")
"""Message id, command, size with header, flags, errno."""
VERSION = struct.Struct("<HH")
DMA_MAP = struct.Struct("<IIQQQ")
"""argsz, flags, offset, address, size."""
DMA_UNMAP = struct.Struct("<IIQQ")
"""argsz, flags, address, size."""
DEVICE_INFO = struct.Struct("<IIII")
"""argsz, flags, number of regions, number of IRQ types."""
REGION_INFO = struct.Struct("<IIIIQQ")
"""argsz, flags, index, offset of capabilities, size, offset."""
IRQ_INFO = struct.Struct("<IIII")
"""argsz, flags, index, count."""
IRQ_SET = struct.Struct("<IIIII")
"""argsz, flags, index, start, count."""
REGION_ACCESS = struct.Struct("<QII")
"""offset, region, count."""
WRITE_MULTI = struct.Struct("<Q")
"""Number of writes that follow."""
WRITE_MULTI_DATA = 8

MAJOR, MINOR = 0, 1
MAX_DATA_BYTES = 1 << 20
"""Largest region access; announced as ``max_data_xfer_size``."""
MAX_MESSAGE_BYTES = HEADER.size + REGION_ACCESS.size + MAX_DATA_BYTES
MAX_FDS = 16
"""Largest number of descriptors in a message; announced as ``max_msg_fds``."""
MAX_WRITE_MULTI = 16
"""Section "VFIO_USER_REGION_WRITE_MULTI": what QEMU sends at most."""

DEVICE_FLAG_RESET, DEVICE_FLAG_PCI = 1, 2
REGION_FLAG_READ, REGION_FLAG_WRITE = 1, 2
IRQ_FLAG_EVENTFD, IRQ_FLAG_NORESIZE = 1, 8
DMA_FLAG_ALL = 3
UNMAP_FLAG_ALL = 2
IRQ_DATA_NONE, IRQ_DATA_BOOL, IRQ_DATA_EVENTFD = 1, 2, 4
IRQ_ACTION_MASK, IRQ_ACTION_UNMASK, IRQ_ACTION_TRIGGER = 8, 16, 32


class RequestError(Exception):
    """A request that is answered with an error; the connection goes on."""

    def __init__(self, errno: int, reason: str) -> None:
        self.errno = errno
        super().__init__(reason)


class ConnectionEndError(Exception):
    """A message after which the stream cannot be followed any further."""


@dataclass(frozen=True)
class Message:
    """A message as it came."""

    id: int
    command: int
    flags: int
    payload: bytes

    @property
    def wants_reply(self) -> bool:
        return not self.flags & Flag.NO_REPLY


def take_message(buffer: bytearray) -> Message | None:
    """Remove the first whole message from ``buffer``; None while it is incomplete.

    Raises ConnectionEndError when the header cannot be one of a client's request.
    """
    if len(buffer) < HEADER.size:
        return None
    message_id, command, size, flags, _ = HEADER.unpack_from(buffer)
    if not HEADER.size <= size <= MAX_MESSAGE_BYTES:
        raise ConnectionEndError(f"message of {size} bytes, expected {HEADER.size} to {MAX_MESSAGE_BYTES}")
    if flags & _TYPE_MASK:
        raise ConnectionEndError(f"message type {flags & _TYPE_MASK}, expected a command (0)")
    if len(buffer) < size:
        return None
    payload = bytes(buffer[HEADER.size : size])
    del buffer[:size]
    return Message(message_id, command, flags, payload)


def reply(request: Message, payload: bytes) -> bytes:
    """Reply to ``request``."""
    return HEADER.pack(request.id, request.command, HEADER.size + len(payload), Flag.REPLY, 0) + payload


def error_reply(request: Message, errno: int) -> bytes:
    """Reply that says that ``request`` failed."""
    return HEADER.pack(request.id, request.command, HEADER.size, Flag.REPLY | Flag.ERROR, errno)


def unpack(layout: struct.Struct, payload: bytes, *, more: bool = False) -> tuple[Any, ...]:
    """Fields of ``payload``; ``more`` allows data behind them. Raises RequestError for another length."""
    if len(payload) < layout.size or (len(payload) > layout.size and not more):
        raise RequestError(EINVAL, f"payload of {len(payload)} bytes, expected {layout.size}")
    return layout.unpack_from(payload)


def parse_version(payload: bytes) -> dict[str, Any]:
    """Capabilities of a client's VERSION request (section "VFIO_USER_VERSION")."""
    major, minor = unpack(VERSION, payload, more=True)
    if major != MAJOR:
        raise RequestError(EINVAL, f"version {major}.{minor}, expected {MAJOR}.{MINOR} or another minor")
    data = payload[VERSION.size :].rstrip(b"\0")
    if not data:
        return {}
    try:
        document = json.loads(data)
    except ValueError as error:
        raise RequestError(EINVAL, f"version data is not JSON: {error}") from error
    capabilities = document.get("capabilities", {}) if isinstance(document, dict) else None
    if not isinstance(capabilities, dict):
        raise RequestError(EINVAL, "version data has no object 'capabilities'")
    return capabilities


def version_payload() -> bytes:
    """This server's version and capabilities."""
    capabilities = {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_DATA_BYTES, "write_multiple": True}
    document = json.dumps({"capabilities": capabilities})
    return VERSION.pack(MAJOR, MINOR) + document.encode() + b"\0"
