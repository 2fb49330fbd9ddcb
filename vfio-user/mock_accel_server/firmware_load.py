"""Load firmware from guest memory, without blocking other devices."""

from __future__ import annotations

import threading

from mock_accel_server import firmware
from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.descriptors import JobError, Status
from mock_accel_server.firmware import FirmwareStatus, Loaded
from mock_accel_server.protocol import DmaFlag
from mock_accel_server.registers import Reg, Registers, State
from mock_accel_server.ring import Client
from mock_accel_server.slices import Slices
from mock_accel_server.spans import Memory

_NOT_MAPPED = Loaded(FirmwareStatus.NOT_MAPPED)


class FirmwareLoader:
    """Registers FIRMWARE_*. Methods need the device's lock, which ``condition`` has."""

    def __init__(
        self, condition: threading.Condition, slices: Slices, registers: Registers, config: ConfigSpace
    ) -> None:
        self._condition = condition
        self._slices = slices
        self._registers = registers
        self._config = config

    def load(self, client: Client | None) -> None:
        """Load the image that the registers describe; releases the lock while it reads and checks the image."""
        size = self._registers.get(Reg.FIRMWARE_SIZE)
        if not 0 < size <= firmware.MOST_BYTES:
            self._finish(Loaded(FirmwareStatus.BAD_FORMAT))
        elif client is None or not self._config.bus_master:
            self._finish(_NOT_MAPPED)
        else:
            where = [(self._registers.get(Reg.FIRMWARE_ADDRESS), size)]
            place = Memory(client.memory, where, DmaFlag.READABLE, Status.SOURCE_FAULT)
            results: list[Loaded] = []

            def work() -> None:
                found = self._check(place, size)
                with self._condition:
                    results.append(found)
                    self._condition.notify_all()

            try:
                threading.Thread(target=work, name="firmware", daemon=True).start()
            except RuntimeError:  # no more threads allowed
                results.append(_NOT_MAPPED)
            self._condition.wait_for(lambda: bool(results))
            self._finish(results[0])

    def _check(self, place: Memory, size: int) -> Loaded:
        try:
            with self._slices.slice(place.resolve) as span:
                data = span.read(0, size)
        except JobError:
            return _NOT_MAPPED
        return firmware.check(data)

    def _finish(self, loaded: Loaded) -> None:
        self._registers.set(Reg.FIRMWARE_STATUS, loaded.status)
        self._registers.set(Reg.FIRMWARE_VERSION, loaded.version)
        self._registers.change(State.FIRMWARE, loaded.status == FirmwareStatus.LOADED)

    def reset(self) -> None:
        """Forget the firmware."""
        self._finish(Loaded(FirmwareStatus.NONE))
