"""A mock accelerator: its regions, jobs and reset; independent of sockets and messages."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Protocol

from mock_accel_server import config_space
from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.dma import DmaTable
from mock_accel_server.firmware_load import FirmwareLoader
from mock_accel_server.irqs import EVENT_VECTOR, IrqTable
from mock_accel_server.jobs import Jobs
from mock_accel_server.operations import Signer
from mock_accel_server.protocol import IrqIndex, RefusedError, RegionIndex
from mock_accel_server.registers import Event, Identity, Reg, Registers, RingError, State
from mock_accel_server.ring import Client
from mock_accel_server.slices import Slices
from mock_accel_server.window import Window

USUAL_TEMPERATURE = 45_000
TEMPERATURE_LIMIT = 95_000
_WRONG_ID = 0xDEADBEEF
_PAGE = 4096
_SECRET_BYTES = 32


class _Region(Protocol):
    def read(self, offset: int, count: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


class Device:
    """State that outlives connections, except the window and a ring that runs.

    Methods need ``lock``, which is reentrant, except ``read``: registers are always current.
    """

    def __init__(self, identity: Identity, secret: bytes | None = None) -> None:
        """With ``secret`` the device signs; by default it is random."""
        self.identity = identity
        self.lock = threading.RLock()
        """Held while a message is handled, and by other threads for moments, never while guest memory is accessed."""
        self.registers = Registers(identity)
        self.config = ConfigSpace(identity, self.reset)
        self.window = Window(identity.window)
        self._regions: dict[int, tuple[_Region, int]] = {
            RegionIndex.BAR0: (self.registers, Registers.SIZE),
            RegionIndex.BAR2: (self.window, identity.window),
            RegionIndex.CONFIG: (self.config, ConfigSpace.SIZE),
        }
        self._client: Client | None = None
        condition = threading.Condition(self.lock)
        self._slices = Slices(condition)
        signer = Signer(os.urandom(_SECRET_BYTES) if secret is None else secret, identity.uuid)
        parts = self.registers, self.config
        self.jobs = Jobs(identity.name, condition, self._slices, *parts, signer, self._event)
        self._firmware = FirmwareLoader(condition, self._slices, *parts)
        self._set_handlers()
        self.registers.set(Reg.TEMPERATURE, USUAL_TEMPERATURE)
        self.registers.set(Reg.TEMPERATURE_LIMIT, TEMPERATURE_LIMIT)

    # Regions

    def region_size(self, index: int) -> int:
        """Size in bytes; 0 for a region that does not exist."""
        return self._regions[index][1] if index in self._regions else 0

    def mapping(self, index: int) -> int | None:
        """File descriptor by which a client maps a whole region; the device keeps it. None: only messages."""
        return self.window.shared_fd if index == RegionIndex.BAR2 else None

    def check(self, index: int, offset: int, count: int) -> _Region:
        """The region, if it contains the whole range. Raises RefusedError."""
        found = self._regions.get(index)
        if found is None:
            raise RefusedError(f"region {index} does not exist")
        region, size = found
        if offset + count > size:
            raise RefusedError(f"region {index} has {size} bytes, asked for {count} from {offset:#x}")
        return region

    def read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes of region ``index``. Raises RefusedError."""
        return self.check(index, offset, count).read(offset, count)

    def write(self, index: int, offset: int, data: bytes) -> None:
        """Write to region ``index``. May wait for a job that stops or for firmware. Raises RefusedError."""
        self.check(index, offset, len(data)).write(offset, data)

    # Clients

    @property
    def connected(self) -> bool:
        return self._client is not None

    def attach(self, memory: DmaTable, irqs: IrqTable) -> None:
        """A client is connected."""
        self._client = Client(memory, irqs, self.window)

    def detach(self) -> None:
        """The client is gone: stop its ring, and wait until no job touches its memory.

        The next client gets another, empty window, because this one may still be mapped.
        """
        self.jobs.stop()
        self._client = None
        self._slices.settle()
        self.window.close()

    def settle(self) -> None:
        """Wait until no job touches ranges that were removed from the client's memory."""
        self._slices.settle()

    def reset(self) -> None:
        """Stop the ring, clear registers, firmware and window, and restore the configuration space after power on."""
        self.jobs.stop()
        self.jobs.wait_until_stopped()
        self.registers.reset()
        self.registers.set(Reg.ERROR, RingError.NONE)
        self.registers.set(Reg.RING_HEAD, 0)
        self.registers.change(State.FATAL, False)
        self._firmware.reset()
        self.config.reset()
        self.window.clear()

    # Registers

    def _set_handlers(self) -> None:
        registers = self.registers
        registers.on_write(Reg.CONTROL, self._control)
        registers.on_write(Reg.RING_BASE, partial(self._set_ring, Reg.RING_BASE))
        registers.on_write(Reg.RING_SIZE, partial(self._set_ring, Reg.RING_SIZE))
        registers.on_write(Reg.RING_TAIL, self.jobs.doorbell)
        registers.on_write(Reg.WINDOW_LIMIT, self._set_window_limit)
        for register in (Reg.JOB_LIMIT, Reg.FIRMWARE_ADDRESS, Reg.FIRMWARE_SIZE):
            registers.on_write(register, partial(registers.set, register))
        registers.on_write(Reg.FIRMWARE_COMMAND, self._command_firmware, command=True)
        registers.on_write(Reg.EVENTS, self._clear_events, command=True)

    def _control(self, value: int) -> None:
        if value & 1:
            self.jobs.start(self._client)
        else:
            self.jobs.stop()

    def _set_ring(self, register: Reg, value: int) -> None:
        if not self.registers.get(Reg.STATE) & State.RUNNING:
            self.registers.set(register, value)

    def _set_window_limit(self, value: int) -> None:
        self.registers.set(Reg.WINDOW_LIMIT, min(value - value % _PAGE, self.window.size))

    def _command_firmware(self, value: int) -> None:
        if value & 1:
            self._firmware.load(self._client)

    def _clear_events(self, value: int) -> None:
        self.registers.set(Reg.EVENTS, self.registers.get(Reg.EVENTS) & ~value)

    def _event(self, event: Event) -> None:
        """Set a bit of EVENTS, and raise its interrupt."""
        self.registers.set(Reg.EVENTS, self.registers.get(Reg.EVENTS) | event)
        if self._client:
            self._client.irqs.signal(IrqIndex.MSI, EVENT_VECTOR)

    # Faults on demand

    def report_correctable(self) -> None:
        """A correctable error: AER status and an event."""
        self.config.report(correctable=config_space.CORRECTABLE_RECEIVER)
        self._event(Event.CORRECTABLE)

    def report_fatal(self) -> None:
        """A fatal error: AER status, an event, and no job until the next reset."""
        self.config.report(fatal=config_space.UNCORRECTABLE_INTERNAL)
        self.registers.change(State.FATAL, True)
        self._event(Event.FATAL)
        self.jobs.fail()

    def signal_error(self) -> None:
        """Raise the ERR interrupt of vfio; QEMU stops the guest."""
        if self._client:
            self._client.irqs.signal(IrqIndex.ERR, 0)

    def set_wrong_id(self, wrong: bool) -> None:
        """Give register ID another value, or the right one."""
        self.registers.set(Reg.ID, _WRONG_ID if wrong else self.registers.right_id)

    def set_temperature(self, millidegrees: int) -> None:
        """Set the temperature, in thousandths of a degree Celsius."""
        self.registers.set(Reg.TEMPERATURE, millidegrees)
        hot = millidegrees > TEMPERATURE_LIMIT
        if hot != bool(self.registers.get(Reg.STATE) & State.HOT):
            self.registers.change(State.HOT, hot)
            self._event(Event.HOT if hot else Event.COOL)
