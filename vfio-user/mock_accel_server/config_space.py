"""PCI configuration space of a mock accelerator.

Source of layout and reset values: PCI Express Base Specification 5.0, 7.5.1 (common
and type 0 header), 7.5.3 (PCI Express capability) and 9.3.3 (SR-IOV capability).
Names follow linux/pci_regs.h.
"""

from __future__ import annotations

from collections.abc import Callable

from mock_accel_server.registers import PF_DEVICE_ID, VENDOR_ID, VF_DEVICE_ID, Identity, Registers

_REVISION_ID = 0x01
_CLASS = 0x120000  # processing accelerator
_STATUS_CAP_LIST = 1 << 4
_HEADER_MULTIFUNCTION = 0x80

_COMMAND_MASK = 0x0546  # memory, bus master, parity, SERR, INTx disable; there is no I/O space
_BAR_MASK = 0xFFFFFFFF & ~(Registers.SIZE - 1)

_EXP = 0x40  # offset of the PCI Express capability
_EXP_ID = 0x10
_EXP_FLAGS = 0x0002  # version 2, endpoint
_EXP_DEVCAP = 1 << 15 | 1 << 28  # role-based error reporting, function level reset
_EXP_DEVCTL = _EXP + 0x08
_DEVCTL_RESET = 0x2810  # reads of 512 bytes, relaxed order, no snoop
_DEVCTL_MASK = 0x78FF
_DEVCTL_FLR = 1 << 15
_SPEED_16GT = 4
_WIDTH_X16 = 16 << 4
_LNKSTA_SLOT_CLOCK = 1 << 12
_LNKCTL_MASK = 0x00C3
_LNKCAP2_SPEEDS = 0x1E  # 2.5 to 16 GT/s

_SRIOV = 0x100
_SRIOV_ID_VERSION_1 = 0x0010 | 1 << 16
_SRIOV_PAGE_SIZES = 0x553  # 4K, 8K, 64K, 256K, 1M, 4M: mandatory by 9.3.3.13


class ConfigSpace:
    """4096 bytes with a mask of writable bits."""

    SIZE = 4096

    def __init__(self, identity: Identity, function_level_reset: Callable[[], None]) -> None:
        """``function_level_reset`` is called when the guest requests it in Device Control."""
        self._initial = bytearray(self.SIZE)
        self._mask = bytearray(self.SIZE)
        self._function_level_reset = function_level_reset
        self._header(identity)
        self._express()
        if identity.total_vfs:
            self._sriov(identity)
        self._data = bytearray(self._initial)

    def _field(self, offset: int, size: int, value: int, mask: int = 0) -> None:
        self._initial[offset : offset + size] = value.to_bytes(size, "little")
        self._mask[offset : offset + size] = mask.to_bytes(size, "little")

    def _header(self, identity: Identity) -> None:
        device_id = VF_DEVICE_ID if identity.is_vf else PF_DEVICE_ID
        self._field(0x00, 2, VENDOR_ID)
        self._field(0x02, 2, device_id)
        self._field(0x04, 2, 0, _COMMAND_MASK)
        self._field(0x06, 2, _STATUS_CAP_LIST)
        self._field(0x08, 4, _CLASS << 8 | _REVISION_ID)
        self._field(0x0C, 1, 0, 0xFF)  # cache line size: read-write, no effect
        self._field(0x0E, 1, _HEADER_MULTIFUNCTION if identity.multifunction else 0)
        self._field(0x10, 4, 0, _BAR_MASK)  # 32-bit memory, not prefetchable
        self._field(0x2C, 2, VENDOR_ID)
        self._field(0x2E, 2, device_id)
        self._field(0x34, 1, _EXP)
        self._field(0x3C, 1, 0, 0xFF)  # interrupt line; pin 0: no INTx

    def _express(self) -> None:
        self._field(_EXP, 2, _EXP_ID)  # no further capability
        self._field(_EXP + 0x02, 2, _EXP_FLAGS)
        self._field(_EXP + 0x04, 4, _EXP_DEVCAP)
        self._field(_EXP_DEVCTL, 2, _DEVCTL_RESET, _DEVCTL_MASK)
        self._field(_EXP + 0x0C, 4, _SPEED_16GT | _WIDTH_X16)
        self._field(_EXP + 0x10, 2, 0, _LNKCTL_MASK)
        self._field(_EXP + 0x12, 2, _SPEED_16GT | _WIDTH_X16 | _LNKSTA_SLOT_CLOCK)
        self._field(_EXP + 0x2C, 4, _LNKCAP2_SPEEDS)
        self._field(_EXP + 0x30, 2, _SPEED_16GT, 0x000F)

    def _sriov(self, identity: Identity) -> None:
        """A complete SR-IOV capability, whose ID QEMU 10.1 to 11.1 hides; the kernel module acts on VF Enable."""
        self._field(_SRIOV, 4, _SRIOV_ID_VERSION_1)
        self._field(_SRIOV + 0x08, 2, 0, 0x0009)  # VF enable, VF memory space enable
        self._field(_SRIOV + 0x0C, 2, identity.total_vfs)  # initial
        self._field(_SRIOV + 0x0E, 2, identity.total_vfs)
        self._field(_SRIOV + 0x10, 2, 0, 0xFFFF)  # number of VFs
        self._field(_SRIOV + 0x14, 2, 1)  # first VF offset: the function after the PF
        self._field(_SRIOV + 0x16, 2, 1)  # VF stride
        self._field(_SRIOV + 0x1A, 2, VF_DEVICE_ID)
        self._field(_SRIOV + 0x1C, 4, _SRIOV_PAGE_SIZES)
        self._field(_SRIOV + 0x20, 4, 1, _SRIOV_PAGE_SIZES)
        self._field(_SRIOV + 0x24, 4, 0, _BAR_MASK)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, both within ``SIZE``, aligned or not."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write within ``SIZE``; read-only bits keep their value."""
        for position, byte in enumerate(data, offset):
            mask = self._mask[position]
            self._data[position] = self._data[position] & ~mask | byte & mask
        high = _EXP_DEVCTL + 1 - offset
        if 0 <= high < len(data) and data[high] & _DEVCTL_FLR >> 8:
            self._function_level_reset()

    def reset(self) -> None:
        """Restore the values after power on."""
        self._data[:] = self._initial
