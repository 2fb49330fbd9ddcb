"""PCI configuration space of a mock accelerator: a PCI Express endpoint with one memory BAR.

Registers by the PCI Local Bus Specification 3.0, chapter 6.1, and the PCI
Express Base Specification 5.0, section 7.5.3 (PCI Express capability).
"""

from __future__ import annotations

import struct

CONFIG_BYTES = 4096
"""With the extended space, which only a function with a PCI Express capability has."""
BAR0_BYTES = 4096

VENDOR_ID = 0x1DE5
DEVICE_ID_PF, DEVICE_ID_VF = 0x0001, 0x0002
_CLASS = 0x120000  # processing accelerator
_REVISION = 1
_COMMAND, _STATUS, _BAR0, _CAPABILITIES = 0x04, 0x06, 0x10, 0x34
_STATUS_CAPABILITIES = 1 << 4
_COMMAND_WRITABLE = 0x0007 | 1 << 6 | 1 << 8 | 1 << 10  # I/O, memory, master, parity, SERR, INTx off
_MULTIFUNCTION = 0x80
_EXPRESS = 0x40
_CAPABILITY_EXPRESS = 0x10
_EXPRESS_VERSION_ENDPOINT = 2  # version 2, type 0: endpoint
_LINK_2_5_GT_X1 = 1 | 1 << 4
_ROLE_BASED_ERRORS = 1 << 15
_FUNCTION_LEVEL_RESET = 1 << 28
_DEVICE_CONTROL_WRITABLE = 0x7FFF


class ConfigSpace:
    """4096 bytes, of which a driver may write those that ``_writable`` masks."""

    def __init__(self, *, is_vf: bool, multifunction: bool) -> None:
        self._initial = bytearray(CONFIG_BYTES)
        self._writable = bytearray(CONFIG_BYTES)
        device = DEVICE_ID_VF if is_vf else DEVICE_ID_PF
        struct.pack_into("<HH", self._initial, 0x00, VENDOR_ID, device)
        struct.pack_into("<H", self._initial, _STATUS, _STATUS_CAPABILITIES)
        struct.pack_into("<I", self._initial, 0x08, _CLASS << 8 | _REVISION)
        self._initial[0x0E] = _MULTIFUNCTION if multifunction else 0
        struct.pack_into("<HH", self._initial, 0x2C, VENDOR_ID, device)
        self._initial[_CAPABILITIES] = _EXPRESS
        struct.pack_into("<H", self._writable, _COMMAND, _COMMAND_WRITABLE)
        # The size of a BAR is what stays 0 when all ones are written.
        struct.pack_into("<I", self._writable, _BAR0, ~(BAR0_BYTES - 1) & 0xFFFFFFFF)
        self._writable[0x0C] = 0xFF  # cache line size
        self._writable[0x3C] = 0xFF  # interrupt line
        self._express_capability()
        self._bytes = bytearray(self._initial)

    def _express_capability(self) -> None:
        struct.pack_into("<BBH", self._initial, _EXPRESS, _CAPABILITY_EXPRESS, 0, _EXPRESS_VERSION_ENDPOINT)
        struct.pack_into("<I", self._initial, _EXPRESS + 0x04, _ROLE_BASED_ERRORS | _FUNCTION_LEVEL_RESET)
        struct.pack_into("<H", self._writable, _EXPRESS + 0x08, _DEVICE_CONTROL_WRITABLE)
        struct.pack_into("<I", self._initial, _EXPRESS + 0x0C, _LINK_2_5_GT_X1)
        struct.pack_into("<H", self._initial, _EXPRESS + 0x12, _LINK_2_5_GT_X1)

    def reset(self) -> None:
        """As after power-on."""
        self._bytes[:] = self._initial

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, which the caller has checked."""
        return bytes(self._bytes[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write the bits of ``data`` that are writable; ``offset`` is checked by the caller."""
        for position, value in enumerate(data, offset):
            mask = self._writable[position]
            self._bytes[position] = self._bytes[position] & ~mask | value & mask
