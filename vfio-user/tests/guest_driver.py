"""A driver for tests: memory that is shared with the device, a ring in it, and jobs."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mock_accel_server import descriptors, firmware, protocol
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag, RegionIndex
from mock_accel_server.registers import Event, Reg, State
from vfio_user_client import Client, irq_set

MEMORY = 48 << 20
"""Bytes of guest memory; the ring is at its start, data from ``DATA`` on."""
BASE = 0x1_0000_0000
"""DMA address of the memory."""
RING_SIZE = 8
LISTS = 0x10000
DATA = 0x100000
IMAGE = firmware.image(b"mock firmware" * 100, 1, 2)
_SECONDS = 20.0
_WIDE = {Reg.RING_BASE, Reg.FIRMWARE_ADDRESS, Reg.JOBS, Reg.BYTES, Reg.JOBS_FAILED, Reg.MEMORY}


@dataclass(frozen=True)
class Result:
    """Fields that the device writes."""

    status: Status
    reserved: int
    written: int


class Driver:
    """Drives the device of ``client``; call ``close``."""

    def __init__(self, client: Client, *, start: bool = True) -> None:
        self.client = client
        self.memory = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, MEMORY)
        self.vectors = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2)]
        self.tail = 0
        self.map()
        setup = irq_set(IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.MSI, 0, 2)
        client.call(Command.DEVICE_SET_IRQS, setup, self.vectors)
        client.write_config(0x04, 2, 0x0006)
        if start:
            self.load_firmware()
            self.run()

    def close(self) -> None:
        for fd in (self.memory, *self.vectors):
            os.close(fd)

    def map(self, address: int = BASE, offset: int = 0, size: int = MEMORY, flags: int = 3) -> None:
        """Map a part of the memory for the device."""
        self.client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, flags, offset, address, size), [self.memory])

    def unmap(self, address: int = BASE, size: int = MEMORY) -> None:
        self.client.call(Command.DMA_UNMAP, protocol.DMA_UNMAP.pack(24, 0, address, size))

    def get(self, register: Reg) -> int:
        return int.from_bytes(self.client.read(register, 8 if register in _WIDE else 4), "little")

    def set(self, register: Reg, value: int) -> None:
        self.client.write(register, value.to_bytes(8 if register in _WIDE else 4, "little"))

    def state(self) -> State:
        return State(self.get(Reg.STATE))

    def events(self) -> Event:
        return Event(self.get(Reg.EVENTS))

    def load_firmware(self, image: bytes = IMAGE, offset: int = LISTS) -> int:
        """Returns FIRMWARE_STATUS."""
        self.put(offset, image)
        self.set(Reg.FIRMWARE_ADDRESS, BASE + offset)
        self.set(Reg.FIRMWARE_SIZE, len(image))
        self.set(Reg.FIRMWARE_COMMAND, 1)
        return self.get(Reg.FIRMWARE_STATUS)

    def run(self, size: int = RING_SIZE, base: int = BASE) -> int:
        """Start a ring; returns ERROR."""
        self.tail = 0
        self.put(0, bytes(descriptors.SIZE * RING_SIZE))
        self.set(Reg.RING_BASE, base)
        self.set(Reg.RING_SIZE, size)
        self.set(Reg.CONTROL, 1)
        return self.get(Reg.ERROR)

    def put(self, offset: int, data: bytes) -> None:
        """Write memory."""
        os.pwrite(self.memory, data, offset)

    def take(self, offset: int, count: int) -> bytes:
        """Read memory."""
        return os.pread(self.memory, count, offset)

    def put_list(self, offset: int, segments: Sequence[tuple[int, int]]) -> int:
        """Write a list of segments; returns its DMA address."""
        data = b"".join(address.to_bytes(8, "little") + length.to_bytes(8, "little") for address, length in segments)
        self.put(offset, data)
        return BASE + offset

    def add(
        self,
        opcode: int,
        source: int = 0,
        destination: int = 0,
        length: int = 0,
        argument: int = 0,
        *,
        flags: int = Flag.INTERRUPT,
        segments: tuple[int, int] = (0, 0),
        reserved: int = 0,
    ) -> int:
        """Write the next descriptor; returns its index."""
        fields = opcode, flags, reserved, source, destination, length, argument, *segments, 0, 0, 0
        index = self.tail
        self.put(index * descriptors.SIZE, descriptors._LAYOUT.pack(*fields))
        self.tail = (self.tail + 1) % RING_SIZE
        return index

    def ring(self) -> None:
        """Ring the doorbell."""
        self.set(Reg.RING_TAIL, self.tail)

    def result(self, index: int) -> Result:
        fields = descriptors._LAYOUT.unpack(self.take(index * descriptors.SIZE, descriptors.SIZE))
        return Result(Status(fields[9]), *fields[10:])

    def wait(self, vector: int = 0) -> int:
        """Wait for interrupts; returns their number."""
        assert select.select([self.vectors[vector]], [], [], _SECONDS)[0], f"no interrupt {vector}: {self.state()!r}"
        return os.eventfd_read(self.vectors[vector])

    def quiet(self, vector: int = 0) -> bool:
        """Whether there was no interrupt."""
        return not select.select([self.vectors[vector]], [], [], 0)[0]

    def until(self, bits: State, on: bool) -> None:
        """Wait for bits of STATE."""
        deadline = time.monotonic() + _SECONDS
        while (self.state() & bits == bits) != on:
            assert time.monotonic() < deadline, f"expected {bits!r} {on}, found {self.state()!r}"
            time.sleep(0.001)

    def finished(self, index: int) -> Result:
        """Wait for a job that is in the ring, and return its result."""
        deadline = time.monotonic() + _SECONDS
        while (result := self.result(index)).status == Status.PENDING:
            assert time.monotonic() < deadline, f"no result: {self.state()!r}"
            time.sleep(0.001)
        return result

    def do(self, opcode: Opcode, *arguments: int, flags: int = 0, segments: tuple[int, int] = (0, 0)) -> Result:
        """Run one job to its end."""
        index = self.add(opcode, *arguments, flags=flags | Flag.INTERRUPT, segments=segments)
        self.ring()
        self.wait()
        return self.result(index)

    def window(self, offset: int, count: int) -> bytes:
        """Read the window by messages."""
        return self.client.read(offset, count, RegionIndex.BAR2)
