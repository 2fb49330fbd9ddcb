"""Jobs, from the view of a driver."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
from collections.abc import Iterator

import pytest
from guest_driver import BASE, DATA, LISTS, MEMORY, RING_SIZE, Driver
from mock_accel_server import protocol
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.protocol import Command, RegionIndex
from mock_accel_server.registers import Reg, State
from running_server import PF, SECRET, Connect

HERE = BASE + DATA
THERE = HERE + (20 << 20)
LARGEST = 16 << 20
WINDOW = PF.window


@pytest.fixture
def driver(connect: Connect) -> Iterator[Driver]:
    driver = Driver(connect())
    yield driver
    driver.close()


def pattern(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.mark.parametrize("length", [1, 63, 4096, 262_145, LARGEST])
def test_copy(driver: Driver, length: int) -> None:
    data = pattern(length)
    driver.put(DATA + 3, data)
    result = driver.do(Opcode.COPY, HERE + 3, THERE + 1, length)
    assert (result.status, result.reserved, result.written) == (Status.DONE, 0, length)
    there = DATA + (20 << 20)
    assert driver.take(there, length + 2) == b"\0" + data + b"\0"
    assert (driver.get(Reg.JOBS), driver.get(Reg.BYTES), driver.get(Reg.JOBS_FAILED)) == (1, length, 0)
    assert driver.get(Reg.RING_HEAD) == 1


@pytest.mark.parametrize("length", [1, 8, 13, 300_001])
def test_fill(driver: Driver, length: int) -> None:
    result = driver.do(Opcode.FILL, 0xDEAD_0000_0000, HERE, length, 0x0807060504030201)
    assert (result.status, result.written) == (Status.DONE, length)
    assert driver.take(DATA, length + 1) == (bytes(range(1, 9)) * (length // 8 + 1))[:length] + b"\0"


def test_sha256(driver: Driver) -> None:
    data = pattern(1 << 20)
    driver.put(DATA, data)
    result = driver.do(Opcode.SHA256, HERE, THERE, len(data))
    assert (result.status, result.written) == (Status.DONE, 32)
    assert driver.take(DATA + (20 << 20), 33) == hashlib.sha256(data).digest() + b"\0"
    assert driver.get(Reg.BYTES) == len(data)


@pytest.mark.parametrize("length", [1, 64])
def test_identify_signs_the_nonce(driver: Driver, length: int) -> None:
    nonce = pattern(length)
    driver.put(DATA, nonce)
    assert driver.do(Opcode.IDENTIFY, HERE, THERE, length).status == Status.DONE
    key = hmac.digest(SECRET, PF.uuid.encode(), "sha256")
    assert driver.take(DATA + (20 << 20), 32) == hmac.digest(key, nonce, "sha256")


def test_window_as_source_and_destination(driver: Driver) -> None:
    data = pattern(5000)
    driver.put(DATA, data)
    assert driver.do(Opcode.COPY, HERE, 100, 5000, flags=Flag.DESTINATION_WINDOW).status == Status.DONE
    assert driver.window(100, 5000) == data
    both = Flag.SOURCE_WINDOW | Flag.DESTINATION_WINDOW
    assert driver.do(Opcode.COPY, 100, WINDOW - 5000, 5000, flags=both).status == Status.DONE
    assert driver.do(Opcode.SHA256, WINDOW - 5000, THERE, 5000, flags=Flag.SOURCE_WINDOW).status == Status.DONE
    assert driver.take(DATA + (20 << 20), 32) == hashlib.sha256(data).digest()


def test_lists_of_segments(driver: Driver) -> None:
    """Segments in any order; the last one is longer than needed."""
    data = pattern(10_000)
    driver.put(DATA, data[6000:])
    driver.put(DATA + 8192, data[:6000])
    source = driver.put_list(LISTS, [(HERE + 8192, 6000), (HERE, 100_000)])
    target = driver.put_list(LISTS + 4096, [(THERE + 4096, 1), (THERE, 4095), (THERE + 8192, 8000)])
    flags = Flag.SOURCE_LIST | Flag.DESTINATION_LIST
    assert driver.do(Opcode.COPY, source, target, 10_000, flags=flags, segments=(2, 3)).status == Status.DONE
    there = DATA + (20 << 20)
    found = driver.take(there + 4096, 1) + driver.take(there, 4095) + driver.take(there + 8192, 5904)
    assert found == data
    assert driver.take(there + 8192 + 5904, 3) == bytes(3)


def test_longest_list(driver: Driver) -> None:
    """As a driver does for 16 MiB that begin within a page."""
    data = pattern(LARGEST)
    driver.put(DATA + 100, data)
    segments = [(HERE + 100, 3996), *[(HERE + at, 4096) for at in range(4096, LARGEST, 4096)], (HERE + LARGEST, 100)]
    assert len(segments) == 4097
    source = driver.put_list(LISTS, segments)
    result = driver.do(Opcode.SHA256, source, THERE, LARGEST, flags=Flag.SOURCE_LIST, segments=(4097, 0))
    assert result.status == Status.DONE
    assert driver.take(DATA + (20 << 20), 32) == hashlib.sha256(data).digest()


def test_ring_wraps_around_and_batches(driver: Driver) -> None:
    for _ in range(3):
        indices = [driver.add(Opcode.FILL, 0, HERE, 8, 7) for _ in range(RING_SIZE - 1)]
        driver.ring()
        assert [driver.finished(index).status for index in indices] == [Status.DONE] * len(indices)
        driver.put(0, bytes(64 * RING_SIZE))
    driver.until(State.BUSY, False)
    assert driver.get(Reg.JOBS) == 3 * (RING_SIZE - 1)
    assert driver.get(Reg.RING_HEAD) == driver.get(Reg.RING_TAIL) == driver.tail


def test_interrupt_only_when_asked(driver: Driver) -> None:
    index = driver.add(Opcode.FILL, 0, HERE, 8, flags=0)
    driver.ring()
    assert driver.finished(index).status == Status.DONE
    driver.until(State.BUSY, False)
    assert driver.quiet()


END = BASE + MEMORY
S, D = Status.SOURCE_FAULT, Status.DESTINATION_FAULT
BAD = {
    # opcode, source, destination, length, flags, reserved, status
    "opcode 0": (0, HERE, THERE, 8, 0, 0, Status.BAD_OPCODE),
    "opcode 5": (5, HERE, THERE, 8, 0, 0, Status.BAD_OPCODE),
    "opcode 65535": (65535, HERE, THERE, 8, 0, 0, Status.BAD_OPCODE),
    "flag 5": (1, HERE, THERE, 8, 1 << 5, 0, Status.BAD_FLAGS),
    "flag 15": (1, HERE, THERE, 8, 1 << 15, 0, Status.BAD_FLAGS),
    "reserved": (1, HERE, THERE, 8, 0, 1, Status.BAD_FLAGS),
    "source window and list": (1, HERE, THERE, 8, 0b01010, 0, Status.BAD_FLAGS),
    "destination window and list": (1, HERE, THERE, 8, 0b10100, 0, Status.BAD_FLAGS),
    "length 0": (1, HERE, THERE, 0, 0, 0, Status.BAD_LENGTH),
    "over 16 MiB": (2, HERE, THERE, LARGEST + 1, 0, 0, Status.BAD_LENGTH),
    "length 2^64-1": (3, HERE, THERE, (1 << 64) - 1, 0, 0, Status.BAD_LENGTH),
    "long nonce": (4, HERE, THERE, 65, 0, 0, Status.BAD_LENGTH),
    "unmapped source": (1, END, THERE, 1, 0, 0, S),
    "source past the end": (1, END - 8, THERE, 9, 0, 0, S),
    "source before the start": (3, BASE - 1, THERE, 9, 0, 0, S),
    "highest source": (1, (1 << 64) - 1, THERE, 16, 0, 0, S),
    "unmapped destination": (1, HERE, END, 1, 0, 0, D),
    "destination past the end": (2, 0, END - 8, 9, 0, 0, D),
    "digest past the end": (3, HERE, END - 31, 8, 0, 0, D),
    "highest destination": (2, 0, (1 << 64) - 1, 16, 0, 0, D),
    "window offset": (1, WINDOW, THERE, 1, Flag.SOURCE_WINDOW, 0, Status.WINDOW_RANGE),
    "window end": (2, 0, WINDOW - 7, 8, Flag.DESTINATION_WINDOW, 0, Status.WINDOW_RANGE),
    "window overflow": (2, 0, (1 << 64) - 1, 8, Flag.DESTINATION_WINDOW, 0, Status.WINDOW_RANGE),
}


@pytest.mark.parametrize(
    ("opcode", "source", "destination", "length", "flags", "reserved", "status"), BAD.values(), ids=BAD
)
def test_bad_descriptors_end_with_their_status(
    driver: Driver, opcode: int, source: int, destination: int, length: int, flags: int, reserved: int, status: Status
) -> None:
    """Nothing is written, the interrupt comes, and the ring goes on."""
    before = driver.take(LISTS, MEMORY - LISTS)
    index = driver.add(opcode, source, destination, length, 255, flags=flags | Flag.INTERRUPT, reserved=reserved)
    driver.ring()
    driver.wait()
    result = driver.result(index)
    assert (result.status, result.written) == (status, 0)
    assert driver.take(LISTS, MEMORY - LISTS) == before
    assert (driver.get(Reg.JOBS), driver.get(Reg.JOBS_FAILED), driver.get(Reg.ERROR)) == (0, 1, 0)
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


@pytest.mark.parametrize(
    ("segments", "number", "status"),
    [
        ([(HERE, 8)], 0, Status.BAD_LIST),
        ([(HERE, 8)], 4098, Status.BAD_LIST),
        ([(HERE, 0xFFFFFFFF)], 0xFFFFFFFF, Status.BAD_LIST),
        ([(HERE, 8), (HERE, 0)], 2, Status.BAD_LIST),
        ([(HERE, 8), (HERE, 1 << 32 | 92)], 2, Status.BAD_LIST),
        ([(HERE, 8), (HERE, 91)], 2, Status.BAD_LIST),
        ([(HERE, 50), (END - 1, 50)], 2, S),
        ([(HERE, 50), (END - 1, 1), (HERE, 50)], 3, Status.DONE),
    ],
)
def test_lists_are_checked(driver: Driver, segments: list[tuple[int, int]], number: int, status: Status) -> None:
    source = driver.put_list(LISTS, segments)
    result = driver.do(Opcode.COPY, source, THERE, 100, flags=Flag.SOURCE_LIST, segments=(number, 0))
    assert result.status == status


@pytest.mark.parametrize(
    ("flags", "status"),
    [(Flag.SOURCE_LIST, S), (Flag.DESTINATION_LIST, D), (Flag.SOURCE_LIST | Flag.DESTINATION_LIST, S)],
)
def test_unmapped_list(driver: Driver, flags: int, status: Status) -> None:
    assert driver.do(Opcode.COPY, END - 16, END - 16, 8, flags=flags, segments=(2, 2)).status == status


def test_access_rights_of_ranges(driver: Driver) -> None:
    readable, writeable, none = 1 << 40, 1 << 41, 1 << 42
    for address, flags in ((readable, 1), (writeable, 2), (none, 0)):
        driver.map(address, DATA, 0x1000, flags)
    for source, destination, status in (
        (readable, writeable, Status.DONE),
        (writeable, writeable, S),
        (readable, readable, D),
        (none, writeable, S),
        (readable, none, D),
        (readable + 0xFFF, writeable, S),
    ):
        assert driver.do(Opcode.COPY, source, destination, 8).status == status, hex(source)


def test_neighbouring_ranges_are_one(driver: Driver) -> None:
    """Two ranges of different files, and a job across them."""
    first, second = 1 << 40, (1 << 40) + 0x1000
    driver.map(first, DATA, 0x1000)
    other = os.memfd_create("other")
    os.ftruncate(other, 0x1000)
    own, driver.memory = driver.memory, other
    driver.map(second, 0, 0x1000)
    driver.memory = own
    assert driver.do(Opcode.FILL, 0, first + 0xFFC, 8, 0x0807060504030201).status == Status.DONE
    assert (driver.take(DATA + 0xFFC, 4), os.pread(other, 4, 0)) == (b"\1\2\3\4", b"\5\6\7\x08")
    os.close(other)


def test_range_without_a_file_has_faults(driver: Driver) -> None:
    driver.client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, 1 << 40, 0x1000))
    assert driver.do(Opcode.COPY, 1 << 40, HERE, 8).status == S
    assert driver.do(Opcode.FILL, 0, 1 << 40, 8).status == D


def test_window_limit(driver: Driver) -> None:
    driver.set(Reg.WINDOW_LIMIT, 8191)
    assert driver.get(Reg.WINDOW_LIMIT) == 4096
    for offset, status in ((4088, Status.DONE), (4089, Status.WINDOW_RANGE)):
        assert driver.do(Opcode.FILL, 0, offset, 8, flags=Flag.DESTINATION_WINDOW).status == status
    driver.set(Reg.WINDOW_LIMIT, 0xFFFFFFFF)
    assert driver.get(Reg.WINDOW_LIMIT) == WINDOW
    driver.set(Reg.WINDOW_LIMIT, 0)
    assert driver.do(Opcode.FILL, 0, WINDOW - 8, 8, flags=Flag.DESTINATION_WINDOW).status == Status.DONE


def test_job_limit(driver: Driver) -> None:
    driver.set(Reg.JOB_LIMIT, 2)
    indices = [driver.add(Opcode.FILL, 0, HERE, 8, flags=0) for _ in range(5)]
    driver.ring()
    expected = [Status.DONE] * 2 + [Status.LIMIT] * 3
    assert [driver.finished(index).status for index in indices] == expected
    driver.until(State.BUSY, False)
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_messages_reach_the_window(driver: Driver) -> None:
    driver.client.write(WINDOW - 4, b"abcd", RegionIndex.BAR2)
    assert driver.do(Opcode.COPY, WINDOW - 4, HERE, 4, flags=Flag.SOURCE_WINDOW).status == Status.DONE
    assert driver.take(DATA, 4) == b"abcd"
