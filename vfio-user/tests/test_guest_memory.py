"""Clients that change or withdraw the files behind their memory: the device never dies of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_driver import BASE, DATA, MEMORY, Driver
from mock_accel_server import protocol
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.protocol import Command
from mock_accel_server.registers import Reg, RingError, State
from running_server import Connect

HERE = BASE + DATA
TARGET = 1 << 40
SIZE = 4 << 20


@pytest.fixture
def driver(connect: Connect) -> Iterator[Driver]:
    driver = Driver(connect())
    yield driver
    driver.close()


def mapped(driver: Driver, fd: int, size: int = SIZE, flags: int = 3) -> None:
    driver.client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, flags, 0, TARGET, size), [fd])


@pytest.fixture
def other() -> Iterator[int]:
    fd = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def test_truncated_file_is_a_fault(driver: Driver, other: int) -> None:
    mapped(driver, other)
    os.ftruncate(other, 4096)
    assert driver.do(Opcode.COPY, TARGET, HERE, 4096).status == Status.DONE
    assert driver.do(Opcode.COPY, TARGET + 4095, HERE, 2).status == Status.SOURCE_FAULT
    assert driver.do(Opcode.SHA256, TARGET, HERE, SIZE).status == Status.SOURCE_FAULT


def test_file_truncated_in_a_job(driver: Driver, other: int) -> None:
    mapped(driver, other)
    for size in (0, SIZE) * 10:
        index = driver.add(Opcode.SHA256, TARGET, HERE, SIZE, flags=0)
        driver.ring()
        os.ftruncate(other, size)
        assert driver.finished(index).status in (Status.SOURCE_FAULT, Status.DONE)


def test_truncated_ring_stops(driver: Driver) -> None:
    os.ftruncate(driver.memory, 0)
    driver.set(Reg.RING_TAIL, 1)
    driver.until(State.RUNNING, False)
    assert driver.get(Reg.ERROR) == RingError.NOT_MAPPED


def test_file_sealed_after_the_map_is_a_fault(driver: Driver, other: int) -> None:
    mapped(driver, other)
    fcntl.fcntl(other, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert driver.do(Opcode.FILL, 0, TARGET, 8).status == Status.DESTINATION_FAULT


def test_flags_of_the_clients_descriptor_change_nothing(driver: Driver, other: int) -> None:
    """With O_APPEND, writes would go to the end of the file."""
    mapped(driver, other)
    fcntl.fcntl(other, fcntl.F_SETFL, os.O_APPEND)
    assert driver.do(Opcode.FILL, 0, TARGET, 8, 0x0101010101010101).status == Status.DONE
    assert os.fstat(other).st_size == SIZE
    assert os.pread(other, 9, 0) == b"\1" * 8 + b"\0"


def test_range_stays_within_its_part_of_the_file(driver: Driver) -> None:
    """The neighbours of a mapped page are not touched."""
    driver.map(TARGET, DATA + 4096, 4096)
    assert driver.do(Opcode.FILL, 0, TARGET, 4097, 255).status == Status.DESTINATION_FAULT
    assert driver.do(Opcode.FILL, 0, TARGET, 4096, (1 << 64) - 1).status == Status.DONE
    assert driver.take(DATA, 3 * 4096) == bytes(4096) + b"\xff" * 4096 + bytes(4096)


def test_file_of_a_disk_is_not_used(driver: Driver, tmp_path: Path) -> None:
    """Its file system may wait for others; tmp_path may be a tmpfs, whose files are used."""
    path = tmp_path / "ram"
    path.write_bytes(bytes(4096))
    fd = os.open(path, os.O_RDWR)
    try:
        in_memory = True
        try:
            fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            in_memory = False
        mapped(driver, fd, 4096)
        expected = Status.DONE if in_memory else Status.SOURCE_FAULT
        assert driver.do(Opcode.COPY, TARGET, HERE, 8).status == expected
    finally:
        os.close(fd)


def test_number_of_files_is_limited(driver: Driver) -> None:
    """Each takes a descriptor of the server, which all devices share. Those over the limit have faults."""
    fds = [os.memfd_create("many") for _ in range(65)]
    fills = []
    try:
        for number, fd in enumerate(fds):
            os.ftruncate(fd, 4096)
            driver.client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, TARGET + (number << 12), 4096), [fd])
        for number in (62, 63, 64):
            fills.append(driver.do(Opcode.FILL, 0, TARGET + (number << 12), 8, 5, flags=0).status)
        assert fills == [Status.DONE, Status.DESTINATION_FAULT, Status.DESTINATION_FAULT]
        for number in (0, 64):
            driver.unmap(TARGET + (number << 12), 4096)
        last = TARGET + (64 << 12)
        driver.client.call(Command.DMA_MAP, protocol.DMA_MAP.pack(32, 3, 0, last, 4096), [fds[-1]])
        assert driver.do(Opcode.FILL, 0, last, 8, 5, flags=0).status == Status.DONE
    finally:
        for fd in fds:
            os.close(fd)


def test_one_file_may_have_many_ranges(driver: Driver) -> None:
    for number in range(200):
        driver.map(TARGET + number * 8192, DATA + number * 4096, 4096)
    for number in (0, 99, 199):
        assert driver.do(Opcode.FILL, 0, TARGET + number * 8192, 8, 5).status == Status.DONE
        assert driver.take(DATA + number * 4096, 8) == (5).to_bytes(8, "little")


def test_job_writes_its_own_list(driver: Driver) -> None:
    """A list is read once: a job that overwrites it goes where it said before."""
    target = driver.put_list(DATA, [(HERE, 16), (HERE + 4096, 16)])
    flags, segments = Flag.DESTINATION_LIST, (0, 2)
    assert driver.do(Opcode.FILL, 0, target, 32, (1 << 64) - 1, flags=flags, segments=segments).status == Status.DONE
    assert driver.take(DATA, 16) == driver.take(DATA + 4096, 16) == b"\xff" * 16


def test_job_writes_its_own_ring(driver: Driver) -> None:
    """The descriptors that it destroys end with an error, and none is outside."""
    before = driver.take(DATA, MEMORY - DATA)
    driver.add(Opcode.FILL, 0, BASE, 512, (1 << 64) - 1, flags=0)
    for _ in range(4):
        driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    driver.until(State.BUSY, False)
    for _ in range(4):
        if driver.get(Reg.RING_HEAD) == driver.tail:
            break
        driver.wait()
    assert driver.get(Reg.JOBS_FAILED) == 4
    assert driver.take(DATA, MEMORY - DATA) == before
