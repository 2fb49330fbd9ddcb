"""Faults on demand: from the control socket to what a driver sees."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guest_driver import BASE, DATA, Driver
from mock_accel_server import control_client
from mock_accel_server.control import ControlServer
from mock_accel_server.control_client import ControlError
from mock_accel_server.control_requests import Requests
from mock_accel_server.descriptors import Opcode, Status
from mock_accel_server.faults import Fault
from mock_accel_server.protocol import Command, IrqIndex, IrqSetFlag
from mock_accel_server.registers import Event, Reg, RingError, State
from running_server import PF, VF, Connect, RunningServer, wait_until
from vfio_user_client import Client, irq_set

HERE = BASE + DATA
Inject = Callable[..., None]


@pytest.fixture
def control(folder: Path, running: RunningServer) -> Iterator[Path]:
    path = folder / "control.sock"
    requests = Requests(running.devices, running.server.die, running.server.revive)
    server = ControlServer(path, requests.answer)
    yield path
    server.close()
    assert not path.exists()


@pytest.fixture
def inject(control: Path) -> Inject:
    return lambda fault, **arguments: control_client.inject(control, PF.name, fault, **arguments)


@pytest.fixture
def driver(connect: Connect) -> Iterator[Driver]:
    driver = Driver(connect())
    yield driver
    driver.close()


def faults(control: Path) -> dict[str, object]:
    found: dict[str, object] = control_client.show(control, PF.name)["faults"]
    return found


def test_hang_ends_by_reset(driver: Driver, inject: Inject, control: Path) -> None:
    inject(Fault.HANG_NEXT_JOB)
    assert faults(control)["hang-next-job"] is True
    index = driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    wait_until(lambda: faults(control)["hanging"] is True)
    assert State.BUSY in driver.state()
    assert driver.quiet() and driver.result(index).status == Status.PENDING
    driver.client.call(Command.DEVICE_RESET)
    assert driver.state() == State(0)


def test_hang_ends_by_clear(driver: Driver, inject: Inject, control: Path) -> None:
    inject(Fault.HANG_NEXT_JOB)
    index = driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    wait_until(lambda: faults(control)["hanging"] is True)
    inject(Fault.CLEAR)
    driver.wait()
    assert driver.result(index).status == Status.DONE
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE, "only the next job hangs"


@pytest.mark.parametrize("opcode", list(Opcode))
def test_wrong_result_of_the_next_job(driver: Driver, inject: Inject, opcode: Opcode) -> None:
    there = HERE + 4096
    driver.put(DATA, b"nonce")
    assert driver.do(opcode, HERE, there, 5, 77).status == Status.DONE
    right = driver.take(DATA + 4096, 32)
    inject(Fault.WRONG_RESULT)
    for expected in (bytes([right[0] ^ 255]) + right[1:], right):
        assert driver.do(opcode, HERE, there, 5, 77).status == Status.DONE
        assert driver.take(DATA + 4096, 32) == expected


def test_slow_jobs(driver: Driver, inject: Inject) -> None:
    inject(Fault.SLOW, milliseconds=60)
    for _ in range(2):
        start = time.monotonic()
        assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE
        assert time.monotonic() - start >= 0.06
    inject(Fault.SLOW, milliseconds=600_000)
    driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    driver.set(Reg.CONTROL, 0)
    driver.until(State.RUNNING, False)
    inject(Fault.SLOW, milliseconds=0)
    driver.run()
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_correctable_error(driver: Driver, inject: Inject) -> None:
    inject(Fault.AER_CORRECTABLE)
    driver.wait(1)
    assert driver.events() == Event.CORRECTABLE
    assert (driver.client.config(0x150, 4), driver.client.config(0x144, 4)) == (1, 0)
    assert driver.client.config(0x4A, 2) == 1
    driver.client.write_config(0x150, 4, 0xFFFFFFFF)
    driver.client.write_config(0x4A, 2, 0xFFFF)
    driver.set(Reg.EVENTS, Event.CORRECTABLE)
    assert (driver.client.config(0x150, 4), driver.client.config(0x4A, 2), driver.events()) == (0, 0, Event(0))
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE


def test_fatal_error_ends_the_job_until_reset(driver: Driver, inject: Inject, control: Path) -> None:
    inject(Fault.HANG_NEXT_JOB)
    first = driver.add(Opcode.FILL, 0, HERE, 8)
    second = driver.add(Opcode.FILL, 0, HERE, 8)
    driver.ring()
    wait_until(lambda: faults(control)["hanging"] is True)
    inject(Fault.AER_FATAL)
    assert driver.finished(first).status == Status.DEVICE_ERROR
    driver.until(State.RUNNING, False)
    assert (driver.state() & State.FATAL, driver.get(Reg.ERROR)) == (State.FATAL, RingError.FATAL)
    assert driver.events() == Event.FATAL | Event.RING_ERROR
    assert driver.wait(1)
    assert driver.result(second).status == Status.PENDING
    assert (driver.client.config(0x144, 4), driver.client.config(0x4A, 2)) == (1 << 22, 4)
    assert driver.run() == RingError.FATAL
    driver.client.call(Command.DEVICE_RESET)
    assert driver.client.config(0x144, 4) == 1 << 22, "a sticky bit"
    driver.client.write_config(0x04, 2, 0x0006)
    driver.load_firmware()
    assert driver.run() == RingError.NONE


def test_fatal_error_of_an_idle_device(driver: Driver, inject: Inject) -> None:
    inject(Fault.AER_FATAL)
    assert (driver.get(Reg.ERROR), driver.get(Reg.CONTROL)) == (RingError.FATAL, 0)


def test_err_interrupt(driver: Driver, inject: Inject) -> None:
    setup = irq_set(IrqSetFlag.ACTION_TRIGGER | IrqSetFlag.DATA_EVENTFD, IrqIndex.ERR, 0, 1)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    driver.client.call(Command.DEVICE_SET_IRQS, setup, [event])
    inject(Fault.ERR_INTERRUPT)
    assert os.eventfd_read(event) == 1
    os.close(event)


def test_wrong_id(driver: Driver, inject: Inject, control: Path) -> None:
    inject(Fault.WRONG_ID)
    assert driver.get(Reg.ID) == 0xDEADBEEF
    assert faults(control)["wrong-id"] is True
    inject(Fault.WRONG_ID, on=False)
    assert driver.get(Reg.ID) == 0x4D4F434B
    inject(Fault.WRONG_ID, on=True)
    inject(Fault.CLEAR)
    assert driver.get(Reg.ID) == 0x4D4F434B


def test_temperature(driver: Driver, inject: Inject) -> None:
    assert (driver.get(Reg.TEMPERATURE), driver.get(Reg.TEMPERATURE_LIMIT)) == (45_000, 95_000)
    inject(Fault.TEMPERATURE, celsius=95)
    assert (State.HOT in driver.state(), driver.events()) == (False, Event(0))
    inject(Fault.TEMPERATURE, celsius=95.5)
    driver.wait(1)
    assert (driver.get(Reg.TEMPERATURE), State.HOT in driver.state(), driver.events()) == (95_500, True, Event.HOT)
    assert driver.do(Opcode.FILL, 0, HERE, 8).status == Status.DONE, "it goes on working"
    driver.set(Reg.EVENTS, 0xFFFFFFFF)
    inject(Fault.TEMPERATURE, celsius=-40)
    driver.wait(1)
    assert (driver.get(Reg.TEMPERATURE), State.HOT in driver.state()) == ((1 << 32) - 40_000, False)
    assert driver.events() == Event.COOL


def test_hot_stays_over_a_reset(driver: Driver, inject: Inject) -> None:
    inject(Fault.TEMPERATURE, celsius=100)
    driver.client.call(Command.DEVICE_RESET)
    assert (driver.state(), driver.events()) == (State.HOT, Event(0))


def test_dead_device_and_its_return(connect: Connect, inject: Inject, control: Path, folder: Path) -> None:
    client = connect()
    client.set_status(1)
    inject(Fault.DIE)
    assert client.at_end()
    wait_until(lambda: not (folder / "pf.sock").exists())
    assert faults(control)["die"] is True
    inject(Fault.DIE)
    assert connect("vf.sock").read(0, 4) == b"KCOM"
    inject(Fault.CLEAR)
    wait_until((folder / "pf.sock").exists)
    assert connect().status == 1
    inject(Fault.CLEAR)


def test_show_and_list(driver: Driver, control: Path) -> None:
    driver.client.set_status(1)
    driver.do(Opcode.FILL, 0, HERE, 100)
    driver.do(Opcode.FILL, 0, HERE, 0)
    driver.until(State.BUSY, False)
    found = control_client.show(control, PF.name)
    assert found == {
        "name": PF.name,
        "uuid": PF.uuid,
        "vf": False,
        "connected": True,
        "faults": dict.fromkeys(("hang-next-job", "hanging", "wrong-result", "wrong-id", "die"), False) | {"slow": 0},
        "celsius": 45.0,
        "status": 1,
        "state": ["RUNNING", "FIRMWARE"],
        "ringError": "NONE",
        "events": [],
        "firmware": 1 << 16 | 2,
        "jobs": 1,
        "jobsFailed": 1,
        "bytes": 100,
    }
    assert control_client.devices(control) == [
        {"name": one.name, "uuid": one.uuid, "vf": one.is_vf} for one in (PF, VF)
    ]
    assert control_client.show(control, VF.name)["connected"] is False


def test_faults_without_a_client(inject: Inject) -> None:
    for fault in Fault:
        if fault is not Fault.DIE:
            inject(fault, **{"slow": {"milliseconds": 1}, "temperature": {"celsius": 20}}.get(fault.value, {}))


def test_error_names_the_socket(folder: Path) -> None:
    with pytest.raises(ControlError, match="control.sock: expected an answer of the device server: No such file"):
        control_client.devices(folder / "control.sock")


def test_faults_act_on_one_device(connect: Connect, inject: Inject) -> None:
    inject(Fault.WRONG_ID)
    other: Client = connect("vf.sock")
    assert other.read(0, 4) == b"KCOM"
