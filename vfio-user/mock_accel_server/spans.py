"""Source and destination of a job: which bytes of which files they are."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mock_accel_server.descriptors import JobError, Status
from mock_accel_server.dma import DmaTable, Extent
from mock_accel_server.protocol import DmaFlag
from mock_accel_server.window import Window

_Vector = Callable[[int, list[memoryview], int], int]


class Span:
    """A sequence of bytes in files. An access that the files do not allow ends the job with ``fault``."""

    def __init__(self, extents: Sequence[Extent], fault: Status) -> None:
        self._extents = extents
        self._ends = list(accumulate(extent.length for extent in extents))
        self._fault = fault

    def read(self, position: int, count: int) -> bytearray:
        """``count`` bytes from ``position``, both within the span. Raises JobError."""
        data = bytearray(count)
        view = memoryview(data)
        for fd, offset, first, last in self._pieces(position, count):
            self._move(os.preadv, fd, view[first:last], offset)
        return data

    def write(self, position: int, data: bytes | bytearray) -> None:
        """Write within the span. Raises JobError."""
        view = memoryview(data)
        for fd, offset, first, last in self._pieces(position, len(data)):
            self._move(os.pwritev, fd, view[first:last], offset)

    def _move(self, call: _Vector, fd: int, part: memoryview, offset: int) -> None:
        try:
            moved = call(fd, [part], offset)
        except OSError as error:
            raise JobError(self._fault) from error
        if moved < len(part):  # at the end of the file
            raise JobError(self._fault)

    def _pieces(self, position: int, count: int) -> list[tuple[int, int, int, int]]:
        """File descriptor, offset in the file, and the part of the ``count`` bytes that is there."""
        pieces = []
        index = bisect_right(self._ends, position)
        done = 0
        while done < count:
            extent = self._extents[index]
            within = position + done - (self._ends[index] - extent.length)
            length = min(extent.length - within, count - done)
            pieces.append((extent.fd, extent.offset + within, done, done + length))
            done += length
            index += 1
        return pieces


class Memory:
    """Segments of guest memory: address and length each."""

    def __init__(self, table: DmaTable, segments: Sequence[tuple[int, int]], access: DmaFlag, fault: Status) -> None:
        self._table = table
        self._segments = segments
        self._access = access
        self._fault = fault
        self._span: Span | None = None
        self._seen = 0

    def resolve(self) -> Span:
        """Where the bytes are now; needs the device's lock. Raises JobError if one is not mapped."""
        if self._span is None or self._seen != self._table.changes:
            extents: list[Extent] = []
            for address, length in self._segments:
                found = self._table.resolve(address, length, self._access)
                if found is None:
                    raise JobError(self._fault)
                extents += found
            self._span, self._seen = Span(_joined(extents), self._fault), self._table.changes
        return self._span


@dataclass(frozen=True)
class InWindow:
    """A range of the window, within its size."""

    window: Window
    offset: int
    length: int
    fault: Status

    def resolve(self) -> Span:
        """Where the bytes are; needs the device's lock."""
        return Span([Extent(self.window.fd, self.offset, self.length)], self.fault)


Place = Memory | InWindow


def _joined(extents: Sequence[Extent]) -> list[Extent]:
    """``extents`` with neighbours in a file as one."""
    joined: list[Extent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        if last and (last.fd, last.offset + last.length) == (extent.fd, extent.offset):
            joined[-1] = Extent(last.fd, last.offset, last.length + extent.length)
        else:
            joined.append(extent)
    return joined
