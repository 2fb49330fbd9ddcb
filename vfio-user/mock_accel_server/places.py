"""Find source and destination of a job, and check them whole before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from mock_accel_server import descriptors
from mock_accel_server.descriptors import Descriptor, Flag, JobError, Opcode, Status
from mock_accel_server.dma import DmaTable
from mock_accel_server.protocol import DmaFlag
from mock_accel_server.ring import Client
from mock_accel_server.spans import InWindow, Memory, Place, Span


@dataclass(frozen=True)
class _Side:
    """Fields of a descriptor for its source or its destination."""

    address: int
    length: int
    segments: int
    in_window: bool
    by_list: bool
    access: DmaFlag
    fault: Status


class SegmentList:
    """A list of segments in guest memory; ``place`` is what it describes, after ``parse``."""

    def __init__(self, memory: DmaTable, side: _Side) -> None:
        descriptors.check_segments(side.segments)
        self._memory = memory
        self._side = side
        self._bytes = side.segments * descriptors.SEGMENT_SIZE
        where = [(side.address, self._bytes)]
        self.place = Memory(memory, where, DmaFlag.READABLE, side.fault)

    def resolve(self) -> Span:
        """Where the list is; needs the device's lock. Raises JobError."""
        return self.place.resolve()

    def parse(self, span: Span) -> None:
        """Read the list, once. Raises JobError."""
        data = bytes(span.read(0, self._bytes))
        segments = descriptors.parse_segments(data, self._side.length)
        self.place = Memory(self._memory, segments, self._side.access, self._side.fault)


class Places:
    """Source and destination of the job of a valid descriptor. Raises JobError."""

    def __init__(self, client: Client, descriptor: Descriptor, window_limit: int) -> None:
        flags = Flag(descriptor.flags)
        self.lists: list[SegmentList] = []
        """Lists to be read before ``resolve``."""
        self._client = client
        self._window_limit = window_limit
        self._source: Place | SegmentList | None = None
        if descriptor.opcode != Opcode.FILL:
            self._source = self._place(
                _Side(
                    descriptor.source,
                    descriptor.length,
                    descriptor.source_segments,
                    Flag.SOURCE_WINDOW in flags,
                    Flag.SOURCE_LIST in flags,
                    DmaFlag.READABLE,
                    Status.SOURCE_FAULT,
                )
            )
        self._destination = self._place(
            _Side(
                descriptor.destination,
                descriptor.written,
                descriptor.destination_segments,
                Flag.DESTINATION_WINDOW in flags,
                Flag.DESTINATION_LIST in flags,
                DmaFlag.WRITEABLE,
                Status.DESTINATION_FAULT,
            )
        )
        self.source = Span([], Status.SOURCE_FAULT)
        self.destination = Span([], Status.DESTINATION_FAULT)

    def _place(self, side: _Side) -> Place | SegmentList:
        if side.by_list:
            self.lists.append(SegmentList(self._client.memory, side))
            return self.lists[-1]
        if not side.in_window:
            return Memory(self._client.memory, [(side.address, side.length)], side.access, side.fault)
        if side.address + side.length > self._window_limit:
            raise JobError(Status.WINDOW_RANGE)
        return InWindow(self._client.window, side.address, side.length, side.fault)

    def resolve(self) -> None:
        """Set ``source`` and ``destination`` to where they are now; needs the device's lock. Raises JobError."""
        if self._source:
            self.source = _span(self._source)
        self.destination = _span(self._destination)


def _span(place: Place | SegmentList) -> Span:
    return (place.place if isinstance(place, SegmentList) else place).resolve()
