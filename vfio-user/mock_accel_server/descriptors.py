"""Descriptors and lists of segments: ``vfio-user/DATASHEET.md``, section "Descriptors"."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

_LAYOUT = struct.Struct("<HHIQQQQIIIIQ")
"""Opcode, flags, reserved, source, destination, length, argument, two numbers of segments, status, reserved, bytes."""
SIZE = _LAYOUT.size
STATUS_OFFSET = 48
_RESULT = struct.Struct("<IQ")
"""From offset 52: reserved, bytes written."""
RESULT_OFFSET = 52
_SEGMENT = struct.Struct("<QII")
"""Address, length, reserved."""
SEGMENT_SIZE = _SEGMENT.size
MOST_SEGMENTS = 4097
MOST_BYTES = 16 << 20
DIGEST_BYTES = 32
_MOST_NONCE = 64


class Opcode(IntEnum):
    """Field opcode."""

    COPY = 1
    FILL = 2
    SHA256 = 3
    IDENTIFY = 4


class Flag(IntFlag):
    """Field flags."""

    INTERRUPT = 1 << 0
    SOURCE_WINDOW = 1 << 1
    DESTINATION_WINDOW = 1 << 2
    SOURCE_LIST = 1 << 3
    DESTINATION_LIST = 1 << 4


_FLAGS = 0x1F
_EITHER = (Flag.SOURCE_WINDOW | Flag.SOURCE_LIST, Flag.DESTINATION_WINDOW | Flag.DESTINATION_LIST)


class Status(IntEnum):
    """Field status."""

    PENDING = 0
    DONE = 1
    BAD_OPCODE = 2
    BAD_FLAGS = 3
    BAD_LENGTH = 4
    SOURCE_FAULT = 5
    DESTINATION_FAULT = 6
    BAD_LIST = 7
    WINDOW_RANGE = 8
    LIMIT = 9
    DEVICE_ERROR = 10


class JobError(Exception):
    """A job ends with ``status``."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(frozen=True)
class Descriptor:
    """A descriptor as the guest wrote it; ``check`` says whether it is valid."""

    opcode: int
    flags: int
    reserved: int
    source: int
    destination: int
    length: int
    argument: int
    source_segments: int
    destination_segments: int

    @property
    def written(self) -> int:
        """Bytes that the job writes to its destination."""
        return self.length if self.opcode in (Opcode.COPY, Opcode.FILL) else DIGEST_BYTES

    def check(self) -> None:
        """Raise JobError unless opcode, flags and length are valid."""
        if self.opcode not in list(Opcode):
            raise JobError(Status.BAD_OPCODE)
        if self.flags & ~_FLAGS or self.reserved or any(self.flags & both == both for both in _EITHER):
            raise JobError(Status.BAD_FLAGS)
        if not 1 <= self.length <= (_MOST_NONCE if self.opcode == Opcode.IDENTIFY else MOST_BYTES):
            raise JobError(Status.BAD_LENGTH)


def parse(data: bytes) -> Descriptor:
    """The descriptor in ``SIZE`` bytes, without the fields that the device writes."""
    return Descriptor(*_LAYOUT.unpack(data)[:9])


def result(written: int) -> bytes:
    """Bytes from ``RESULT_OFFSET`` on; they are written before the status."""
    return _RESULT.pack(0, written)


def check_segments(number: int) -> None:
    """Raise JobError unless a list may have ``number`` segments."""
    if not 1 <= number <= MOST_SEGMENTS:
        raise JobError(Status.BAD_LIST)


def parse_segments(data: bytes, needed: int) -> list[tuple[int, int]]:
    """Address and length of the segments that ``needed`` bytes take. Raises JobError.

    All segments must be valid, also those that are not needed.
    """
    taken: list[tuple[int, int]] = []
    for address, length, reserved in _SEGMENT.iter_unpack(data):
        if not length or reserved:
            raise JobError(Status.BAD_LIST)
        if needed:
            taken.append((address, min(length, needed)))
            needed -= taken[-1][1]
    if needed:
        raise JobError(Status.BAD_LIST)
    return taken
