"""Loading firmware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guest_driver import BASE, IMAGE, LISTS, MEMORY, Driver
from mock_accel_server import firmware
from mock_accel_server.firmware import FirmwareStatus
from mock_accel_server.registers import Reg, RingError, State
from running_server import Connect


@pytest.fixture
def driver(connect: Connect) -> Iterator[Driver]:
    driver = Driver(connect(), start=False)
    yield driver
    driver.close()


def seen(driver: Driver) -> tuple[int, int, bool]:
    return driver.get(Reg.FIRMWARE_STATUS), driver.get(Reg.FIRMWARE_VERSION), State.FIRMWARE in driver.state()


def test_firmware_is_loaded_when_the_command_is_answered(driver: Driver) -> None:
    assert seen(driver) == (FirmwareStatus.NONE, 0, False)
    assert driver.load_firmware() == FirmwareStatus.LOADED
    assert seen(driver) == (FirmwareStatus.LOADED, 1 << 16 | 2, True)
    assert driver.get(Reg.FIRMWARE_COMMAND) == 0


def test_largest_image(driver: Driver) -> None:
    assert driver.load_firmware(firmware.image(bytes((1 << 20) - 32), 65535, 65535)) == FirmwareStatus.LOADED
    assert driver.get(Reg.FIRMWARE_VERSION) == 0xFFFFFFFF


def changed(offset: int, data: bytes) -> bytes:
    return IMAGE[:offset] + data + IMAGE[offset + len(data) :]


BAD = {
    "magic": (changed(0, b"MACE"), FirmwareStatus.BAD_FORMAT),
    "reserved": (changed(12, b"\1"), FirmwareStatus.BAD_FORMAT),
    "size": (changed(8, b"\0"), FirmwareStatus.BAD_FORMAT),
    "longer": (IMAGE + b"x", FirmwareStatus.BAD_FORMAT),
    "shorter": (IMAGE[:-1], FirmwareStatus.BAD_FORMAT),
    "header only": (IMAGE[:31], FirmwareStatus.BAD_FORMAT),
    "too large": (firmware.image(bytes((1 << 20) - 31)), FirmwareStatus.BAD_FORMAT),
    "checksum": (changed(16, bytes(16)), FirmwareStatus.BAD_CHECKSUM),
    "payload": (changed(40, b"?"), FirmwareStatus.BAD_CHECKSUM),
}


@pytest.mark.parametrize(("image", "status"), BAD.values(), ids=BAD)
def test_bad_image_is_refused_and_removes_the_last_one(driver: Driver, image: bytes, status: FirmwareStatus) -> None:
    driver.load_firmware()
    assert driver.load_firmware(image) == status
    assert seen(driver) == (status, 0, False)
    assert driver.run() == RingError.NO_FIRMWARE
    assert driver.load_firmware() == FirmwareStatus.LOADED


def test_empty_image_is_refused(driver: Driver) -> None:
    driver.set(Reg.FIRMWARE_COMMAND, 1)
    assert driver.get(Reg.FIRMWARE_STATUS) == FirmwareStatus.BAD_FORMAT


def test_image_must_be_mapped(driver: Driver) -> None:
    driver.set(Reg.FIRMWARE_ADDRESS, BASE + MEMORY - 64)
    driver.set(Reg.FIRMWARE_SIZE, 65)
    driver.set(Reg.FIRMWARE_COMMAND, 1)
    assert driver.get(Reg.FIRMWARE_STATUS) == FirmwareStatus.NOT_MAPPED


def test_image_needs_bus_mastering(driver: Driver) -> None:
    driver.client.write_config(0x04, 2, 0x0002)
    assert driver.load_firmware() == FirmwareStatus.NOT_MAPPED


def test_other_commands_do_nothing(driver: Driver) -> None:
    driver.put(LISTS, IMAGE)
    driver.set(Reg.FIRMWARE_COMMAND, 0xFFFFFFFE)
    assert seen(driver) == (FirmwareStatus.NONE, 0, False)
