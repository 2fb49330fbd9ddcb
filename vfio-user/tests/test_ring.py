"""Start and stop of the ring, its errors, and the ways to end a job that runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from guest_driver import BASE, DATA, MEMORY, Driver
from mock_accel_server import jobs
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag
from mock_accel_server.registers import Event, Reg, RingError, State
from running_server import PF, Connect, RunningServer, wait_until
from vfio_user_client import irq_set

HERE = BASE + DATA
LARGEST = 16 << 20


@pytest.fixture
def driver(connect: Connect) -> Iterator[Driver]:
    driver = Driver(connect())
    yield driver
    driver.close()


def hang(running: RunningServer, driver: Driver) -> int:
    """Start a job that hangs; returns its index."""
    device = running.devices[0]
    with device.lock:
        device.jobs.faults.hang_next = True
    index = driver.add(Opcode.FILL, 0, HERE, LARGEST, 255)
    driver.ring()
    wait_until(lambda: device.jobs.faults.hanging)
    return index


@pytest.mark.parametrize(
    ("size", "base", "error"),
    [
        (0, BASE, RingError.BAD_RING),
        (1, BASE, RingError.BAD_RING),
        (3, BASE, RingError.BAD_RING),
        (2048, BASE, RingError.BAD_RING),
        (0x80000000, BASE, RingError.BAD_RING),
        (8, BASE + 32, RingError.BAD_RING),
        (8, BASE - 64, RingError.NOT_MAPPED),
        (8, BASE + MEMORY - 448, RingError.NOT_MAPPED),
        (8, (1 << 64) - 64, RingError.NOT_MAPPED),
        (2, BASE, RingError.NONE),
        (1024, BASE, RingError.NONE),
    ],
)
def test_bad_rings_do_not_start(driver: Driver, size: int, base: int, error: RingError) -> None:
    driver.set(Reg.CONTROL, 0)
    assert driver.run(size, base) == error
    running = error == RingError.NONE
    assert (driver.get(Reg.CONTROL), State.RUNNING in driver.state()) == (int(running), running)
    assert driver.events() == (Event(0) if running else Event.RING_ERROR)
    assert driver.quiet(1) == running


@pytest.mark.parametrize("flags", [0, 1, 2])
def test_ring_needs_memory_for_reading_and_writing(driver: Driver, flags: int) -> None:
    driver.set(Reg.CONTROL, 0)
    driver.map(1 << 40, 0, 0x1000, flags)
    assert driver.run(8, 1 << 40) == RingError.NOT_MAPPED


def test_ring_needs_firmware_and_bus_mastering(connect: Connect) -> None:
    driver = Driver(connect(), start=False)
    assert driver.run() == RingError.NO_FIRMWARE
    assert driver.load_firmware() == 1
    driver.client.write_config(0x04, 2, 0x0002)
    assert driver.run() == RingError.NO_BUS_MASTER
    driver.client.write_config(0x04, 2, 0x0006)
    driver.client.write_config(0x84, 2, 3)
    assert driver.run() == RingError.NO_BUS_MASTER, "in D3hot"
    driver.client.write_config(0x84, 2, 0)
    assert driver.run() == RingError.NONE
    driver.close()


def test_bus_mastering_off_stops_the_ring(driver: Driver) -> None:
    driver.client.write_config(0x04, 2, 0x0002)
    index = driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    driver.wait(1)
    driver.until(State.RUNNING, False)
    assert (driver.get(Reg.ERROR), driver.result(index).status) == (RingError.NO_BUS_MASTER, Status.PENDING)


@pytest.mark.parametrize("tail", [8, 9, 0xFFFFFFFF])
def test_bad_tail_stops_the_ring(driver: Driver, tail: int) -> None:
    driver.set(Reg.RING_TAIL, tail)
    assert (driver.get(Reg.ERROR), driver.get(Reg.CONTROL), driver.events()) == (2, 0, Event.RING_ERROR)
    assert State.RUNNING not in driver.state()
    driver.wait(1)
    assert driver.run() == RingError.NONE
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_unmapped_ring_stops(driver: Driver) -> None:
    driver.unmap()
    driver.set(Reg.RING_TAIL, 1)
    driver.wait(1)
    driver.until(State.RUNNING, False)
    assert driver.get(Reg.ERROR) == RingError.NOT_MAPPED


def test_ring_registers_are_ignored_where_they_do_not_apply(driver: Driver) -> None:
    driver.set(Reg.RING_BASE, 64)
    driver.set(Reg.RING_SIZE, 16)
    driver.set(Reg.CONTROL, 1)
    assert (driver.get(Reg.RING_BASE), driver.get(Reg.RING_SIZE)) == (BASE, 8)
    driver.set(Reg.CONTROL, 0)
    driver.set(Reg.RING_TAIL, 1)
    assert driver.get(Reg.RING_TAIL) == 0


def test_stop_abandons_the_job(driver: Driver, running: RunningServer) -> None:
    index = hang(running, driver)
    assert driver.state() & (State.RUNNING | State.BUSY) == State.RUNNING | State.BUSY
    driver.set(Reg.CONTROL, 0)
    driver.until(State.RUNNING, False)
    assert State.BUSY not in driver.state()
    assert (driver.result(index).status, driver.get(Reg.ERROR)) == (Status.PENDING, 0)
    assert driver.take(DATA, 16) == bytes(16)
    assert driver.quiet()
    assert driver.run() == RingError.NONE
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_stop_within_a_large_job(driver: Driver) -> None:
    """After RUNNING is 0 nothing is written any more."""
    for _ in range(20):
        driver.add(Opcode.FILL, 0, HERE, LARGEST, (1 << 64) - 1)
        driver.ring()
        driver.set(Reg.CONTROL, 0)
        driver.until(State.RUNNING, False)
        driver.put(DATA, bytes(LARGEST))
        assert driver.take(DATA, LARGEST) == bytes(LARGEST)
        driver.run()


@pytest.mark.parametrize("everything", [True, False])
def test_unmap_within_a_job(driver: Driver, everything: bool) -> None:
    """After the reply to the unmap nothing is written any more, and the job ends with a fault."""
    target = 1 << 40
    driver.map(target, DATA, LARGEST)
    for _ in range(20):
        index = driver.add(Opcode.FILL, 0, target, LARGEST, (1 << 64) - 1, flags=0)
        driver.ring()
        if everything:
            driver.client.call(Command.DMA_UNMAP, (24).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(16))
        else:
            driver.unmap(target, LARGEST)
        driver.put(DATA, bytes(LARGEST))
        assert driver.take(DATA, LARGEST) == bytes(LARGEST)
        if everything:
            driver.set(Reg.CONTROL, 0)  # if the job had ended before
            driver.until(State.RUNNING, False)
            assert driver.result(index).status in (Status.PENDING, Status.DONE)
            driver.map()
            driver.run()
        else:
            assert driver.finished(index).status in (Status.DESTINATION_FAULT, Status.DONE)
        driver.map(target, DATA, LARGEST)


def test_unmap_closes_the_file(driver: Driver) -> None:
    def kept() -> int:
        found = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # that of the listing itself
                found += "memfd:guest" in str(path.readlink())
        return found

    # The server runs in this process: the test's own descriptor, and that of the server.
    driver.map(1 << 40, 0, 0x1000)
    assert kept() == 2
    driver.unmap()
    assert kept() == 2
    driver.unmap(1 << 40, 0x1000)
    assert kept() == 1


def test_end_of_the_client_stops_its_job(connect: Connect, running: RunningServer) -> None:
    driver = Driver(connect())
    index = hang(running, driver)
    driver.client.socket.close()
    wait_until(lambda: not running.devices[0].connected)
    again = Driver(connect(), start=False)
    again.until(State.RUNNING, False)
    assert driver.result(index).status == Status.PENDING
    assert again.run() == RingError.NONE, "the firmware stays"
    assert again.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE
    driver.close()
    again.close()


def reset_by_message(driver: Driver) -> None:
    driver.client.call(Command.DEVICE_RESET)


def reset_by_function(driver: Driver) -> None:
    driver.client.write_config(0x48, 2, 0xA810)


@pytest.mark.parametrize("reset", [reset_by_message, reset_by_function])
def test_reset_stops_the_job_and_keeps_nothing(driver: Driver, running: RunningServer, reset: object) -> None:
    assert callable(reset)
    assert driver.do(Opcode.FILL, 0, 0, PF.window, 255, flags=Flag.DESTINATION_WINDOW).status == Status.DONE
    driver.client.set_status(1)
    driver.set(Reg.JOB_LIMIT, 3)
    driver.set(Reg.WINDOW_LIMIT, 4096)
    device = running.devices[0]
    with device.lock:
        device.report_correctable()
    index = hang(running, driver)
    counters = [driver.get(register) for register in (Reg.JOBS, Reg.BYTES, Reg.JOBS_FAILED)]
    reset(driver)
    assert driver.state() == State(0)
    assert driver.client.read(Reg.STATUS, 0x28) == bytes(0x28)
    assert driver.client.read(Reg.JOB_LIMIT, 0x9C - Reg.JOB_LIMIT) == bytes(0x9C - Reg.JOB_LIMIT)
    assert [driver.get(register) for register in (Reg.JOBS, Reg.BYTES, Reg.JOBS_FAILED)] == counters
    assert driver.window(0, PF.window) == bytes(PF.window)
    assert driver.result(index).status == Status.PENDING
    assert driver.client.config(0x04, 2) == 0
    driver.client.write_config(0x04, 2, 0x0006)
    assert driver.run() == RingError.NO_FIRMWARE
    driver.load_firmware()
    assert driver.run() == RingError.NONE
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_reset_within_a_large_job(driver: Driver) -> None:
    for _ in range(10):
        driver.add(Opcode.FILL, 0, HERE, LARGEST, (1 << 64) - 1)
        driver.ring()
        reset_by_message(driver)
        assert driver.state() == State(0)
        driver.put(DATA, bytes(LARGEST))
        assert driver.take(DATA, LARGEST) == bytes(LARGEST)
        driver.client.write_config(0x04, 2, 0x0006)
        driver.load_firmware()
        driver.run()


def test_jobs_of_one_device_do_not_delay_another(connect: Connect, running: RunningServer) -> None:
    """While one device hangs and works, another one answers."""
    first, second = Driver(connect()), Driver(connect("vf.sock"))
    hang(running, first)
    assert second.do(Opcode.FILL, 0, HERE, LARGEST).status == Status.DONE
    index = second.add(Opcode.FILL, 0, HERE, LARGEST)
    second.ring()
    assert first.client.read(0, 4) == b"KCOM"
    assert second.finished(index).status == Status.DONE
    for driver in (first, second):
        driver.close()


def test_one_vector_gets_both_interrupts(driver: Driver) -> None:
    """Linux gets one on x86 without interrupt remapping."""
    remove = irq_set(IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.MSI, 1, 1)
    driver.client.call(Command.DEVICE_SET_IRQS, remove)
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE
    driver.set(Reg.RING_TAIL, 99)
    driver.wait()
    assert driver.events() == Event.RING_ERROR


def test_thread_ends_when_there_is_no_work(
    driver: Driver, running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_IDLE_SECONDS", 0.01)
    for _ in range(3):
        assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE
        wait_until(lambda: not any(thread.name == "jobs-mock0" for thread in threading.enumerate()))
