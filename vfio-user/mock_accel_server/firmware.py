"""The firmware image: ``vfio-user/DATASHEET.md``, section "Firmware"."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from mock_accel_server.hashes import sha256

_HEADER = struct.Struct("<4sHHII16s")
"""Magic, major, minor, bytes of the payload, reserved, checksum."""
_MAGIC = b"MACF"
_CHECKSUM_BYTES = 16
MOST_BYTES = 1 << 20


class FirmwareStatus(IntEnum):
    """Values of FIRMWARE_STATUS."""

    NONE = 0
    LOADED = 1
    BAD_FORMAT = 2
    BAD_CHECKSUM = 3
    NOT_MAPPED = 4


@dataclass(frozen=True)
class Loaded:
    """Result of a load."""

    status: FirmwareStatus
    version: int = 0
    """Value of FIRMWARE_VERSION."""


def image(payload: bytes, major: int = 1, minor: int = 0) -> bytes:
    """A firmware image."""
    checksum = sha256(payload).digest()[:_CHECKSUM_BYTES]
    return _HEADER.pack(_MAGIC, major, minor, len(payload), 0, checksum) + payload


def check(data: bytes | bytearray) -> Loaded:
    """Check an image."""
    if len(data) < _HEADER.size:
        return Loaded(FirmwareStatus.BAD_FORMAT)
    magic, major, minor, size, reserved, checksum = _HEADER.unpack_from(data)
    payload = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or size != len(payload) or reserved:
        return Loaded(FirmwareStatus.BAD_FORMAT)
    if sha256(payload).digest()[:_CHECKSUM_BYTES] != checksum:
        return Loaded(FirmwareStatus.BAD_CHECKSUM)
    return Loaded(FirmwareStatus.LOADED, major << 16 | minor)
