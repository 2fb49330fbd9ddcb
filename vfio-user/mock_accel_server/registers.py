"""BAR0 of a mock accelerator: ``vfio-user/DATASHEET.md``, section "Registers"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

UUID_BYTES = 16
VENDOR_ID = 0x1DE5
PF_DEVICE_ID = 0x0001
VF_DEVICE_ID = 0x0002
DEFAULT_WINDOW = 1 << 20

Handler = Callable[[int], None]


class Reg(IntEnum):
    """Offsets of the registers."""

    ID = 0x00
    REVISION = 0x04
    UUID = 0x08
    MEMORY = 0x20
    CAPABILITIES = 0x28
    STATUS = 0x2C
    CONTROL = 0x30
    STATE = 0x34
    ERROR = 0x38
    RING_BASE = 0x40
    RING_SIZE = 0x48
    RING_HEAD = 0x4C
    RING_TAIL = 0x50
    WINDOW_SIZE = 0x54
    JOBS = 0x58
    BYTES = 0x60
    JOBS_FAILED = 0x68
    TEMPERATURE = 0x70
    TEMPERATURE_LIMIT = 0x74
    JOB_LIMIT = 0x78
    WINDOW_LIMIT = 0x7C
    FIRMWARE_ADDRESS = 0x80
    FIRMWARE_SIZE = 0x88
    FIRMWARE_COMMAND = 0x8C
    FIRMWARE_STATUS = 0x90
    FIRMWARE_VERSION = 0x94
    EVENTS = 0x98


class State(IntFlag):
    """Bits of STATE."""

    RUNNING = 1 << 0
    FIRMWARE = 1 << 1
    FATAL = 1 << 2
    HOT = 1 << 3
    BUSY = 1 << 4


class Event(IntFlag):
    """Bits of EVENTS."""

    RING_ERROR = 1 << 0
    FATAL = 1 << 1
    HOT = 1 << 2
    COOL = 1 << 3
    CORRECTABLE = 1 << 4


class RingError(IntEnum):
    """Values of ERROR."""

    NONE = 0
    BAD_RING = 1
    BAD_TAIL = 2
    NOT_MAPPED = 3
    NO_BUS_MASTER = 4
    NO_FIRMWARE = 5
    FATAL = 6


_WIDE = {Reg.MEMORY, Reg.RING_BASE, Reg.JOBS, Reg.BYTES, Reg.JOBS_FAILED, Reg.FIRMWARE_ADDRESS}
"""Registers of 64 bits; UUID has 16 bytes, all others 32 bits."""


@dataclass(frozen=True)
class Identity:
    """Properties that distinguish one mock accelerator from another."""

    name: str
    """For the log and the socket's name; not visible in the guest."""
    uuid: str
    """1 to 16 printable ASCII characters."""
    memory: int
    """Bytes that the device claims to have."""
    capability_bits: int
    is_vf: bool = False
    total_vfs: int = 0
    multifunction: bool = False
    """Its slot has more than one function."""
    window: int = DEFAULT_WINDOW
    """Bytes of BAR2; those of its VFs are equally large."""


class Registers:
    """BAR0, little-endian: 4 KiB. Reserved bytes read 0.

    The content is always current, so a read is a copy. A write calls the handler of
    each writable register that it touches, in the order of their offsets.
    """

    SIZE = 4096
    _ID = 0x4D4F434B
    _REVISION = 0x00020000

    def __init__(self, identity: Identity) -> None:
        self._data = bytearray(self.SIZE)
        self._handlers: dict[int, Handler] = {}
        self._commands: set[int] = set()
        self._data[Reg.UUID : Reg.UUID + UUID_BYTES] = identity.uuid.encode("ascii").ljust(UUID_BYTES, b"\0")
        self.set(Reg.ID, self._ID)
        self.set(Reg.REVISION, self._REVISION)
        self.set(Reg.MEMORY, identity.memory)
        self.set(Reg.CAPABILITIES, identity.capability_bits)
        self.set(Reg.WINDOW_SIZE, identity.window)
        self.on_write(Reg.STATUS, self._set_status)

    @property
    def right_id(self) -> int:
        """Value of ID without a fault."""
        return self._ID

    def get(self, register: Reg) -> int:
        """Value of a register, unsigned."""
        return int.from_bytes(self._data[register : register + _size(register)], "little")

    def signed(self, register: Reg) -> int:
        """Value of a register, signed."""
        size = _size(register)
        return int.from_bytes(self._data[register : register + size], "little", signed=True)

    def set(self, register: Reg, value: int) -> None:
        """Set a register; a negative value is stored in two's complement."""
        size = _size(register)
        self._data[register : register + size] = value.to_bytes(size, "little", signed=value < 0)

    def add(self, register: Reg, number: int) -> None:
        """Add to a counter; it wraps around."""
        self.set(register, (self.get(register) + number) % (1 << 8 * _size(register)))

    def change(self, bits: State, on: bool) -> None:
        """Set or clear bits of STATE."""
        state = self.get(Reg.STATE)
        self.set(Reg.STATE, state | bits if on else state & ~bits)

    def on_write(self, register: Reg, handler: Handler, *, command: bool = False) -> None:
        """Make a register writable: ``handler`` gets the value.

        Bytes that a write does not have keep their value, or are 0 for a ``command``,
        of which each set bit has an effect.
        """
        self._handlers[register] = handler
        self._handlers = dict(sorted(self._handlers.items()))
        if command:
            self._commands.add(register)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, both within ``SIZE``, aligned or not."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write within ``SIZE``, aligned or not."""
        end = offset + len(data)
        for register, handler in self._handlers.items():
            size = _size(register)
            if offset < register + size and register < end:
                value = bytearray(size) if register in self._commands else self._data[register : register + size]
                first, last = max(offset, register), min(end, register + size)
                value[first - register : last - register] = data[first - offset : last - offset]
                handler(int.from_bytes(value, "little"))

    def _set_status(self, value: int) -> None:
        """0 (free) or 1 (allocated); other values are ignored."""
        if value in (0, 1):
            self.set(Reg.STATUS, value)

    def reset(self) -> None:
        """Clear all writable registers."""
        for register in self._handlers:
            self._data[register : register + _size(register)] = bytes(_size(register))


def _size(register: int) -> int:
    return 8 if register in _WIDE else 4
