"""BAR0 of a mock accelerator; the kernel module reads the same layout (``kernel-driver/mock_accel.h``)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

UUID_BYTES = 16
VENDOR_ID = 0x1DE5
PF_DEVICE_ID = 0x0001
VF_DEVICE_ID = 0x0002


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


class Registers:
    """BAR0, little-endian: 4 KiB, of which the first 0x30 bytes are in use.

    Only ``status`` is writable. A write that would result in a value other than 0
    (free) or 1 (allocated) is ignored. Reserved bytes read 0.
    """

    SIZE = 4096
    _LAYOUT = struct.Struct("<II16s8xQII")
    _ID = 0x4D4F434B
    _REVISION = 0x00010000
    _STATUS = slice(0x2C, 0x30)

    def __init__(self, identity: Identity) -> None:
        fields = (self._ID, self._REVISION, identity.uuid.encode("ascii"), identity.memory, identity.capability_bits, 0)
        self._data = bytearray(self._LAYOUT.pack(*fields).ljust(self.SIZE, b"\0"))

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, both within ``SIZE``, aligned or not."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write within ``SIZE``. Bytes of ``status`` that are not in ``data`` keep their value."""
        if offset >= self._STATUS.stop:
            return
        written = self._data[: self._STATUS.stop]
        written[offset : offset + len(data)] = data
        value = int.from_bytes(written[self._STATUS], "little")
        if value in (0, 1):
            self._data[self._STATUS] = value.to_bytes(4, "little")

    def reset(self) -> None:
        """Set the status to free."""
        self._data[self._STATUS] = bytes(4)
