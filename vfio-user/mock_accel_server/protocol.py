"""Wire format of vfio-user: QEMU's docs/interop/vfio-user.rst, here "the specification".

All fields are in the byte order of the host ("Protocol Specification").
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum, IntFlag

HEADER = struct.Struct("=HHIII")
"""Section "Header": message ID, command, message size with this header, flags, error."""

TYPE_MASK = 0xF
TYPE_COMMAND = 0x0
TYPE_REPLY = 0x1
NO_REPLY = 1 << 4
ERROR = 1 << 5

MAJOR_VERSION = 0
MINOR_VERSION = 0

MAX_DATA_XFER_SIZE = 1 << 20
"""Bytes in one region read or write; the specification's default (section ``VFIO_USER_VERSION``)."""
MAX_MSG_FDS = 16
"""File descriptors accepted with one message; also QEMU's limit."""
MAX_DMA_MAPS = 65535
"""The specification's default (section ``VFIO_USER_VERSION``)."""
SCM_MAX_FDS = 253
"""Linux's limit of file descriptors in one message: unix(7), ``SCM_RIGHTS``."""
PAGE_SIZE = 4096


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
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


VERSION = struct.Struct("=HH")
"""Section ``VFIO_USER_VERSION``: major, minor; then optional JSON, terminated by NUL."""

DMA_MAP = struct.Struct("=IIQQQ")
"""Section ``VFIO_USER_DMA_MAP``: argsz, flags, offset in the file, address, size."""

DMA_UNMAP = struct.Struct("=IIQQ")
"""Section ``VFIO_USER_DMA_UNMAP``: argsz, flags, address, size."""

DEVICE_INFO = struct.Struct("=IIII")
"""Section ``VFIO_USER_DEVICE_GET_INFO``: argsz, flags, num_regions, num_irqs."""

REGION_INFO = struct.Struct("=IIIIQQ")
"""Section ``VFIO_USER_DEVICE_GET_REGION_INFO``: argsz, flags, index, cap_offset, size, offset."""

SPARSE_MMAP = struct.Struct("=HHIIIQQ")
"""``struct vfio_region_info_cap_sparse_mmap`` of linux/vfio.h with one area: id, version, next, number of areas,
reserved; offset and size of the area."""
SPARSE_MMAP_ID = 1
SPARSE_MMAP_VERSION = 1

IRQ_INFO = struct.Struct("=IIII")
"""Section ``VFIO_USER_DEVICE_GET_IRQ_INFO``: argsz, flags, index, count."""

IRQ_SET = struct.Struct("=IIIII")
"""Section ``VFIO_USER_DEVICE_SET_IRQS``: argsz, flags, index, start, count; then booleans, depending on the flags."""

REGION_ACCESS = struct.Struct("=QII")
"""Sections ``VFIO_USER_REGION_READ`` and ``VFIO_USER_REGION_WRITE``: offset, region, count; then data."""

READ_MESSAGE = struct.Struct(HEADER.format + REGION_ACCESS.format.removeprefix("="))
"""A whole ``VFIO_USER_REGION_READ``: the header, then offset, region, count."""

WRITE_COUNT = struct.Struct("=Q")
"""Section ``VFIO_USER_REGION_WRITE_MULTI``: number of writes; then as many of ``SINGLE_WRITE``."""

SINGLE_WRITE = struct.Struct("=QII8s")
"""Section "Single Device Write Format": offset, region, count, data (its first ``count`` bytes)."""

MAX_MESSAGE_SIZE = HEADER.size + REGION_ACCESS.size + MAX_DATA_XFER_SIZE
"""The largest command: a region write of ``MAX_DATA_XFER_SIZE`` bytes."""


class DmaFlag(IntFlag):
    """Flags of ``VFIO_USER_DMA_MAP``."""

    READABLE = 1 << 0
    WRITEABLE = 1 << 1


DMA_UNMAP_ALL = 1 << 1
"""``VFIO_DMA_UNMAP_FLAG_ALL`` of linux/vfio.h, with address and size 0: not in the specification, but QEMU sends it."""


class DeviceFlag(IntFlag):
    """Flags of ``VFIO_USER_DEVICE_GET_INFO``."""

    RESET = 1 << 0
    PCI = 1 << 1


class RegionFlag(IntFlag):
    """Flags of ``VFIO_USER_DEVICE_GET_REGION_INFO``."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class RegionIndex(IntEnum):
    """PCI regions as linux/vfio.h numbers them (``VFIO_PCI_*_REGION_INDEX``)."""

    BAR0 = 0
    BAR2 = 2
    CONFIG = 7


REGION_COUNT = 9


class IrqFlag(IntFlag):
    """Flags of ``VFIO_USER_DEVICE_GET_IRQ_INFO``."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqIndex(IntEnum):
    """PCI interrupt types as linux/vfio.h numbers them (``VFIO_PCI_*_IRQ_INDEX``)."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class IrqSetFlag(IntFlag):
    """Flags of ``VFIO_USER_DEVICE_SET_IRQS``: one of DATA, one of ACTION."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class RefusedError(Exception):
    """A refused command; it gets an error reply with ``number`` (an errno)."""

    def __init__(self, reason: str, number: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.number = number


class EndConnectionError(RefusedError):
    """A refused command after which the stream cannot be parsed; the connection ends after the reply."""


def reply(message_id: int, command: int, payload: bytes) -> bytes:
    """A reply message. Section "Header"."""
    return HEADER.pack(message_id, command, HEADER.size + len(payload), TYPE_REPLY, 0) + payload


def error_reply(message_id: int, command: int, number: int) -> bytes:
    """An error reply with errno ``number``; only a header. Section "Header"."""
    return HEADER.pack(message_id, command, HEADER.size, TYPE_REPLY | ERROR, number)


def unpack_request(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    """The fields of a payload that may be longer than ``layout``, to leave space for the reply. Raises RefusedError."""
    if len(payload) < layout.size:
        raise RefusedError(f"expected {layout.size} bytes or more after the header, found {len(payload)}")
    return layout.unpack_from(payload)


def unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    """The fields of a payload that has exactly ``layout``. Raises RefusedError."""
    if len(payload) != layout.size:
        raise RefusedError(f"expected {layout.size} bytes after the header, found {len(payload)}")
    return layout.unpack(payload)
