"""Random rings, descriptors and lists on one device, with a simple model of their results."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from guest_driver import BASE, RING_SIZE, Driver
from mock_accel_server import protocol
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.protocol import Command
from mock_accel_server.registers import Reg, State
from vfio_user_client import Client

PAGE = 4096
PAGES = 64
_LISTS = range(4, 20)
"""Pages of lists, which the device cannot write. The ring is in page 0; pages 1 to 3 are a gap."""
_DATA = range(20, PAGES)
_MOST_SEGMENTS = 40
_SECONDS = 20.0
_ALL = protocol.DMA_UNMAP.pack(24, protocol.DMA_UNMAP_ALL, 0, 0)
_READABLE, _WRITEABLE = 1, 2


class JobFuzzError(AssertionError):
    """The device misbehaved."""


@dataclass(frozen=True)
class _Job:
    """A descriptor with the contents of its lists."""

    opcode: int
    flags: int
    reserved: int
    source: int
    destination: int
    length: int
    segments: tuple[int, int]
    lists: tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]


class JobFuzzer:
    """Takes over the device of ``client``; ``close`` leaves it reset."""

    def __init__(self, client: Client, source: random.Random) -> None:
        self._source = source
        self._client = client
        client.call(Command.DEVICE_RESET)
        client.call(Command.DMA_UNMAP, _ALL)
        self._driver = Driver(client)
        self._driver.set(Reg.CONTROL, 0)
        self._driver.until(State.RUNNING, False)
        self._window = self._driver.get(Reg.WINDOW_SIZE)
        self._access = [0] * PAGES
        self.jobs = 0

    def close(self) -> None:
        """Does not fail if the connection has ended."""
        self._driver.close()

    def step(self) -> None:
        """One ring with random jobs. Raises JobFuzzError."""
        driver, source = self._driver, self._source
        self._remap()
        driver.put(0, source.randbytes(PAGES * PAGE))
        error = driver.run()
        if error:
            raise JobFuzzError(f"expected a ring that starts, found error {error}")
        window_limit = source.choice([0, 0, 4096, 8192, 0xFFFFFFFF])
        job_limit = source.choice([0, 0, 0, 1, 3])
        driver.set(Reg.WINDOW_LIMIT, window_limit)
        driver.set(Reg.JOB_LIMIT, job_limit)
        usable = min(window_limit or self._window, self._window)
        jobs = [self._job(number) for number in range(source.randrange(1, RING_SIZE))]
        for job in jobs:
            driver.add(
                job.opcode,
                job.source,
                job.destination,
                job.length,
                source.getrandbits(64),
                flags=job.flags,
                segments=job.segments,
                reserved=job.reserved,
            )
        before = driver.take(0, PAGES * PAGE)
        driver.ring()
        interrupted = source.random() < 0.2
        if interrupted:
            self._interrupt()
        else:
            self._wait(len(jobs))
            for number, job in enumerate(jobs):
                expected = Status.LIMIT if job_limit and number >= job_limit else self._expected(job, usable)
                found = driver.result(number).status
                if found != expected:
                    raise JobFuzzError(f"expected {expected.name}, found {found.name}: {job}")
        self._check_memory(before)
        driver.set(Reg.CONTROL, 0)
        driver.until(State.RUNNING, False)
        self.jobs += len(jobs)

    def _remap(self) -> None:
        """Map the pages with random rights, some not at all; neighbours may be one range."""
        source = self._source
        self._client.call(Command.DMA_UNMAP, _ALL)
        self._access = [3, 0, 0, 0, *[_READABLE] * len(_LISTS)]
        while len(self._access) < PAGES:
            count = min(source.randrange(1, 9), PAGES - len(self._access))
            self._access += [source.choice([3, 3, 3, 2, 1, 0])] * count
        first = 0
        while first < PAGES:
            access, count = self._access[first], 1
            while source.random() < 0.8 and first + count < PAGES and self._access[first + count] == access:
                count += 1
            if access:
                self._driver.map(BASE + first * PAGE, first * PAGE, count * PAGE, access)
            first += count

    def _job(self, number: int) -> _Job:
        source = self._source
        length = self._length()
        lists = self._segments(length), self._segments(length)
        flags = source.choice([0, 1, 2, 4, 6, 8, 8, 16, 16, 24, 24, 25])
        if source.random() < 0.05:
            flags = source.getrandbits(16)
        numbers = [len(one) if source.random() < 0.95 else source.getrandbits(32) for one in lists]
        addresses = []
        for side, (window, by_list) in enumerate(
            ((Flag.SOURCE_WINDOW, Flag.SOURCE_LIST), (Flag.DESTINATION_WINDOW, Flag.DESTINATION_LIST))
        ):
            if flags & by_list and source.random() < 0.95:
                offset = (_LISTS[0] + 2 * number + side) * PAGE
                addresses.append(self._driver.put_list(offset, lists[side]))
                continue
            addresses.append(source.randrange(self._window + 2) if flags & window else self._address())
            if flags & by_list:  # the list is noise
                numbers[side] = 0
        opcode = source.choice([1, 1, 2, 2, 3, 4]) if source.random() < 0.95 else source.getrandbits(16)
        reserved = source.choice([0] * 20 + [1])
        return _Job(opcode, flags, reserved, addresses[0], addresses[1], length, (numbers[0], numbers[1]), lists)

    def _length(self) -> int:
        source = self._source
        near = source.choice([0, 1, 32, 64, PAGE, 2 * PAGE, 5 * PAGE, 1 << 24, 1 << 64])
        return (
            max(0, near + source.randrange(-2, 3)) % (1 << 64) if source.random() < 0.5 else source.randrange(1, 9000)
        )

    def _address(self) -> int:
        source = self._source
        if source.random() < 0.05:
            return source.choice([0, (1 << 64) - 1, (1 << 64) - PAGE, source.getrandbits(64)])
        page = source.choice(_DATA) if source.random() < 0.95 else PAGES - 1
        return BASE + page * PAGE + source.choice([0, 0, 1, PAGE - 1, source.randrange(PAGE)])

    def _segments(self, length: int) -> Sequence[tuple[int, int]]:
        source = self._source
        number = source.randrange(1, _MOST_SEGMENTS)
        each = max(1, min(length, 1 << 20) // number + source.randrange(-1, 3))
        found = [(self._address(), each) for _ in range(number)]
        if source.random() < 0.1:
            found[source.randrange(number)] = (self._address(), source.choice([0, 1 << 32, (1 << 64) - 1]))
        return found

    # The model

    def _expected(self, job: _Job, window: int) -> Status:
        """The status of a job, by the data sheet."""
        if job.opcode not in (1, 2, 3, 4):
            return Status.BAD_OPCODE
        if job.flags >> 5 or job.reserved or job.flags & 10 == 10 or job.flags & 20 == 20:
            return Status.BAD_FLAGS
        if not 1 <= job.length <= (64 if job.opcode == Opcode.IDENTIFY else 1 << 24):
            return Status.BAD_LENGTH
        written = job.length if job.opcode in (1, 2) else 32
        sides = [
            (job.source, job.length, job.flags & 2, job.flags & 8, _READABLE, Status.SOURCE_FAULT),
            (job.destination, written, job.flags & 4, job.flags & 16, _WRITEABLE, Status.DESTINATION_FAULT),
        ]
        used = [(side, *fields) for side, fields in enumerate(sides) if side or job.opcode != Opcode.FILL]
        for side, address, length, in_window, by_list, _, _ in used:
            if by_list and not 1 <= job.segments[side] <= 4097:
                return Status.BAD_LIST
            if in_window and address + length > window:
                return Status.WINDOW_RANGE
        for side, address, length, _, by_list, _, fault in used:
            if by_list:
                if not self._may(address, job.segments[side] * 16, _READABLE):
                    return fault
                if job.segments[side] != len(job.lists[side]) or not _fits(job.lists[side], length):
                    return Status.BAD_LIST
        for side, address, length, in_window, by_list, access, fault in used:
            pieces = _taken(job.lists[side], length) if by_list else [(address, length)]
            if not in_window and not all(self._may(start, count, access) for start, count in pieces):
                return fault
        return Status.DONE

    def _may(self, address: int, length: int, access: int) -> bool:
        first, last = (address - BASE) // PAGE, (address + length - 1 - BASE) // PAGE
        return first >= 0 and last < PAGES and all(one & access for one in self._access[first : last + 1])

    # After the jobs

    def _interrupt(self) -> None:
        """End the jobs in one of the ways that a driver or a machine emulator has."""
        kind = self._source.randrange(4)
        if kind == 0:
            self._driver.set(Reg.CONTROL, 0)
        elif kind == 1:
            self._client.call(Command.DMA_UNMAP, _ALL)
        elif kind == 2:
            self._client.write_config(0x04, 2, 0)
            self._driver.until(State.BUSY, False)
            self._client.write_config(0x04, 2, 6)
        else:
            self._client.call(Command.DEVICE_RESET)
            self._client.write_config(0x04, 2, 6)
            if self._driver.load_firmware(offset=_LISTS[0] * PAGE) != 1:
                raise JobFuzzError("the firmware cannot be loaded after a reset")
        self._driver.until(State.BUSY, False)

    def _wait(self, number: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while self._driver.get(Reg.RING_HEAD) != number or State.BUSY in self._driver.state():
            if State.RUNNING not in self._driver.state():
                raise JobFuzzError(f"the ring stopped with error {self._driver.get(Reg.ERROR)}")
            if time.monotonic() > deadline:
                raise JobFuzzError(f"the jobs do not end: {self._driver.state()!r}")

    def _check_memory(self, before: bytes) -> None:
        """Only pages that the device may write have changed."""
        after = self._driver.take(0, PAGES * PAGE)
        for page, access in enumerate(self._access):
            part = slice(page * PAGE, (page + 1) * PAGE)
            firmware = page == _LISTS[0]
            if not access & _WRITEABLE and not firmware and before[part] != after[part]:
                raise JobFuzzError(f"page {page} with access {access} has changed")


def _fits(segments: Sequence[tuple[int, int]], length: int) -> bool:
    valid = all(0 < count < 1 << 32 for _, count in segments)
    return valid and sum(count for _, count in segments) >= length


def _taken(segments: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    taken = []
    for address, count in segments:
        if length:
            taken.append((address, min(count, length)))
            length -= taken[-1][1]
    return taken
