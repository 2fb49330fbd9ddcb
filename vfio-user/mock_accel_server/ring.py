"""A command ring: where its descriptors are, and which of them are ready."""

from __future__ import annotations

from dataclasses import dataclass, field

from mock_accel_server import descriptors
from mock_accel_server.dma import DmaTable
from mock_accel_server.irqs import IrqTable
from mock_accel_server.protocol import DmaFlag
from mock_accel_server.registers import RingError
from mock_accel_server.spans import Span
from mock_accel_server.window import Window

_LEAST, _MOST = 2, 1024
_BOTH = DmaFlag.READABLE | DmaFlag.WRITEABLE


@dataclass(frozen=True)
class Client:
    """What a connected client provides to jobs."""

    memory: DmaTable
    irqs: IrqTable
    window: Window


@dataclass(eq=False)
class Ring:
    """A ring from the setting of RUN to its stop. Needs the device's lock."""

    client: Client
    base: int
    size: int
    head: int = 0
    tail: int = 0
    over: set[int] = field(default_factory=set)
    """Indices of waiting descriptors over the job limit."""
    stopped: bool = False
    failing: bool = False
    """A fatal error happened: the job that runs ends with DEVICE_ERROR, then the ring stops."""

    def error(self) -> RingError:
        """Why the ring cannot be started."""
        if self.base % descriptors.SIZE or not _LEAST <= self.size <= _MOST or self.size.bit_count() != 1:
            return RingError.BAD_RING
        found = self.client.memory.resolve(self.base, self.size * descriptors.SIZE, _BOTH)
        return RingError.NONE if found is not None else RingError.NOT_MAPPED

    def add(self, tail: int, limit: int) -> None:
        """Descriptors up to ``tail`` are ready; those that exceed ``limit`` waiting ones are marked."""
        waiting = (self.tail - self.head) % self.size
        for number in range((tail - self.tail) % self.size):
            if waiting + number >= limit:
                self.over.add((self.tail + number) % self.size)
        self.tail = tail

    def descriptor(self) -> Span | None:
        """Where the descriptor at the head is; None if it is not mapped any more."""
        address = self.base + self.head * descriptors.SIZE
        found = self.client.memory.resolve(address, descriptors.SIZE, _BOTH)
        return None if found is None else Span(found, descriptors.Status.SOURCE_FAULT)

    def advance(self) -> None:
        """The descriptor at the head has ended."""
        self.over.discard(self.head)
        self.head = (self.head + 1) % self.size
