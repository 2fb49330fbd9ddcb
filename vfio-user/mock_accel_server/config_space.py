"""PCI configuration space of a mock accelerator.

Source of layout and reset values: PCI Express Base Specification 5.0, 7.5.1 (common
and type 0 header), 7.5.2 (power management), 7.5.3 (PCI Express capability), 7.7.1
(MSI), 7.8.4 (advanced error reporting) and 9.3.3 (SR-IOV). Names follow
linux/pci_regs.h. vfio-user/DATASHEET.md lists the capabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from mock_accel_server.irqs import VECTORS
from mock_accel_server.registers import (
    PF_DEVICE_ID,
    VENDOR_ID,
    VF_DEVICE_ID,
    Identity,
    Registers,
)

_REVISION_ID = 0x01
_CLASS = 0x120000  # processing accelerator
_STATUS_CAP_LIST = 1 << 4
_HEADER_MULTIFUNCTION = 0x80

_COMMAND = 0x04
_COMMAND_MASTER = 1 << 2
_COMMAND_MASK = 0x0546  # memory, bus master, parity, SERR, INTx disable; there is no I/O space
_BAR_MASK = 0xFFFFFFFF & ~(Registers.SIZE - 1)
_BAR_64_PREFETCHABLE = 0xC

_EXP = 0x40  # offset of the PCI Express capability
_EXP_ID = 0x10
_EXP_FLAGS = 0x0002  # version 2, endpoint
_EXP_DEVCAP = 1 << 15 | 1 << 28  # role-based error reporting, function level reset
_EXP_DEVCTL = _EXP + 0x08
_EXP_DEVSTA = _EXP + 0x0A
_DEVSTA_CORRECTABLE = 1 << 0
_DEVSTA_FATAL = 1 << 2
_DEVSTA_ERRORS = 0x000F
_DEVCTL_RESET = 0x2810  # reads of 512 bytes, relaxed order, no snoop
_DEVCTL_MASK = 0x78FF
_DEVCTL_FLR = 1 << 15
_SPEED_16GT = 4
_WIDTH_X16 = 16 << 4
_LNKSTA_SLOT_CLOCK = 1 << 12
_LNKCTL_MASK = 0x00C3
_LNKCAP2_SPEEDS = 0x1E  # 2.5 to 16 GT/s

_PM = 0x80
_PM_ID = 0x01
_PMC = 0x0003  # version 3; no D1, no D2, no PME
_PMCSR = _PM + 0x04
_PMCSR_NO_SOFT_RESET = 1 << 3
_PMCSR_STATE = 0x0003
_D0, _D3HOT = 0, 3

_MSI = 0x90
_MSI_ID = 0x05
_MSI_CONTROL = 0x0182  # two vectors, 64-bit addresses, per-vector masking
_MSI_CONTROL_MASK = 0x0071  # enable, number of enabled vectors

_FIRST = 0x100  # where extended capabilities begin
_SRIOV = _FIRST
_SRIOV_ID_VERSION_1 = 0x0010 | 1 << 16
_SRIOV_PAGE_SIZES = 0x553  # 4K, 8K, 64K, 256K, 1M, 4M: mandatory by 9.3.3.13

_AER = 0x140
_AER_ID_VERSION_2 = 0x0001 | 2 << 16
_AER_UNCORRECTABLE = _AER + 0x04
_AER_UNCORRECTABLE_BITS = 0x007FF030
_AER_SEVERITY_RESET = 0x00462030
_AER_CORRECTABLE = _AER + 0x10
_AER_CORRECTABLE_BITS = 0x0000F1C1
_AER_CORRECTABLE_MASK_RESET = 0x0000E000
_AER_STICKY = slice(_AER + 0x04, _AER + 0x18)
"""Status, mask and severity keep their values over resets (7.8.4: RW1CS, RWS)."""
UNCORRECTABLE_INTERNAL = 1 << 22
CORRECTABLE_RECEIVER = 1 << 0


class _Layout:
    """4096 bytes after power on, with masks of the bits that can be written, and of those that a written 1 clears."""

    SIZE = 4096

    def __init__(self, *, is_vf: bool, multifunction: bool, total_vfs: int, window: int) -> None:
        self.initial, self.mask, self.clearable = (bytearray(self.SIZE) for _ in range(3))
        self._header(is_vf=is_vf, multifunction=multifunction, window=window)
        self._express()
        self._power_management()
        self._msi()
        if total_vfs:
            self._sriov(total_vfs, window)
        else:
            self._field(_FIRST, 4, _AER << 20)  # a null capability (7.9.28)
        self._error_reporting()

    def _field(self, offset: int, size: int, value: int, mask: int = 0) -> None:
        self.initial[offset : offset + size] = value.to_bytes(size, "little")
        self.mask[offset : offset + size] = mask.to_bytes(size, "little")

    def _clear_by_one(self, offset: int, size: int, bits: int) -> None:
        self.clearable[offset : offset + size] = bits.to_bytes(size, "little")

    def _bar_64(self, offset: int, size: int) -> None:
        """A 64-bit, prefetchable memory BAR of ``size`` bytes, a power of two."""
        self._field(offset, 8, _BAR_64_PREFETCHABLE, (1 << 64) - size)

    def _header(self, *, is_vf: bool, multifunction: bool, window: int) -> None:
        device_id = VF_DEVICE_ID if is_vf else PF_DEVICE_ID
        self._field(0x00, 2, VENDOR_ID)
        self._field(0x02, 2, device_id)
        self._field(_COMMAND, 2, 0, _COMMAND_MASK)
        self._field(0x06, 2, _STATUS_CAP_LIST)
        self._field(0x08, 4, _CLASS << 8 | _REVISION_ID)
        self._field(0x0C, 1, 0, 0xFF)  # cache line size: read-write, no effect
        self._field(0x0E, 1, _HEADER_MULTIFUNCTION if multifunction else 0)
        self._field(0x10, 4, 0, _BAR_MASK)  # 32-bit memory, not prefetchable
        self._bar_64(0x18, window)
        self._field(0x2C, 2, VENDOR_ID)
        self._field(0x2E, 2, device_id)
        self._field(0x34, 1, _EXP)
        self._field(0x3C, 1, 0, 0xFF)  # interrupt line; pin 0: no INTx

    def _express(self) -> None:
        self._field(_EXP, 2, _EXP_ID | _PM << 8)
        self._field(_EXP + 0x02, 2, _EXP_FLAGS)
        self._field(_EXP + 0x04, 4, _EXP_DEVCAP)
        self._field(_EXP_DEVCTL, 2, _DEVCTL_RESET, _DEVCTL_MASK)
        self._clear_by_one(_EXP_DEVSTA, 2, _DEVSTA_ERRORS)
        self._field(_EXP + 0x0C, 4, _SPEED_16GT | _WIDTH_X16)
        self._field(_EXP + 0x10, 2, 0, _LNKCTL_MASK)
        self._field(_EXP + 0x12, 2, _SPEED_16GT | _WIDTH_X16 | _LNKSTA_SLOT_CLOCK)
        self._field(_EXP + 0x2C, 4, _LNKCAP2_SPEEDS)
        self._field(_EXP + 0x30, 2, _SPEED_16GT, 0x000F)

    def _power_management(self) -> None:
        self._field(_PM, 2, _PM_ID | _MSI << 8)
        self._field(_PM + 0x02, 2, _PMC)
        self._field(_PMCSR, 2, _PMCSR_NO_SOFT_RESET, _PMCSR_STATE)

    def _msi(self) -> None:
        self._field(_MSI, 2, _MSI_ID)
        self._field(_MSI + 0x02, 2, _MSI_CONTROL, _MSI_CONTROL_MASK)
        self._field(_MSI + 0x04, 4, 0, 0xFFFFFFFC)  # address
        self._field(_MSI + 0x08, 4, 0, 0xFFFFFFFF)
        self._field(_MSI + 0x0C, 2, 0, 0xFFFF)  # data
        self._field(_MSI + 0x10, 4, 0, (1 << VECTORS) - 1)  # mask

    def _error_reporting(self) -> None:
        self._field(_AER, 4, _AER_ID_VERSION_2)
        self._clear_by_one(_AER_UNCORRECTABLE, 4, _AER_UNCORRECTABLE_BITS)
        self._field(_AER_UNCORRECTABLE + 0x04, 4, 0, _AER_UNCORRECTABLE_BITS)
        self._field(_AER_UNCORRECTABLE + 0x08, 4, _AER_SEVERITY_RESET, _AER_UNCORRECTABLE_BITS)
        self._clear_by_one(_AER_CORRECTABLE, 4, _AER_CORRECTABLE_BITS)
        self._field(_AER_CORRECTABLE + 0x04, 4, _AER_CORRECTABLE_MASK_RESET, _AER_CORRECTABLE_BITS)

    def _sriov(self, total_vfs: int, window: int) -> None:
        """A complete SR-IOV capability, whose header QEMU 10.1 to 11.1 hides; the kernel module acts on VF Enable."""
        self._field(_SRIOV, 4, _SRIOV_ID_VERSION_1 | _AER << 20)
        self._field(_SRIOV + 0x08, 2, 0, 0x0009)  # VF enable, VF memory space enable
        self._field(_SRIOV + 0x0C, 2, total_vfs)  # initial
        self._field(_SRIOV + 0x0E, 2, total_vfs)
        self._field(_SRIOV + 0x10, 2, 0, 0xFFFF)  # number of VFs
        self._field(_SRIOV + 0x14, 2, 1)  # first VF offset: the function after the PF
        self._field(_SRIOV + 0x16, 2, 1)  # VF stride
        self._field(_SRIOV + 0x1A, 2, VF_DEVICE_ID)
        self._field(_SRIOV + 0x1C, 4, _SRIOV_PAGE_SIZES)
        self._field(_SRIOV + 0x20, 4, 1, _SRIOV_PAGE_SIZES)
        self._field(_SRIOV + 0x24, 4, 0, _BAR_MASK)
        self._bar_64(_SRIOV + 0x2C, window)


_layout = cache(_Layout)
"""Devices of a kind share theirs."""


class ConfigSpace:
    """The configuration space of one device."""

    SIZE = _Layout.SIZE

    def __init__(self, identity: Identity, function_level_reset: Callable[[], None]) -> None:
        """``function_level_reset`` is called when the guest requests it in Device Control."""
        self._layout = _layout(
            is_vf=identity.is_vf,
            multifunction=identity.multifunction,
            total_vfs=identity.total_vfs,
            window=identity.window,
        )
        self._function_level_reset = function_level_reset
        self._data = bytearray(self._layout.initial)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, both within ``SIZE``, aligned or not."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Write within ``SIZE``; read-only bits keep their value."""
        state = self._data[_PMCSR] & _PMCSR_STATE
        for position, byte in enumerate(data, offset):
            mask, cleared = self._layout.mask[position], byte & self._layout.clearable[position]
            self._data[position] = (self._data[position] & ~mask | byte & mask) & ~cleared
        if self._data[_PMCSR] & _PMCSR_STATE not in (_D0, _D3HOT):  # 7.5.2.2: a state that does not exist is ignored
            self._data[_PMCSR] = self._data[_PMCSR] & ~_PMCSR_STATE | state
        high = _EXP_DEVCTL + 1 - offset
        if 0 <= high < len(data) and data[high] & _DEVCTL_FLR >> 8:
            self._function_level_reset()

    @property
    def bus_master(self) -> bool:
        """Whether the device may access memory: enabled by the guest, and in D0."""
        return bool(self._data[_COMMAND] & _COMMAND_MASTER) and not self._data[_PMCSR] & _PMCSR_STATE

    def report(self, *, correctable: int = 0, fatal: int = 0) -> None:
        """Set bits of the AER status registers, and what detected them in Device Status."""
        for offset, bits in ((_AER_CORRECTABLE, correctable), (_AER_UNCORRECTABLE, fatal)):
            found = int.from_bytes(self._data[offset : offset + 4], "little")
            self._data[offset : offset + 4] = (found | bits).to_bytes(4, "little")
        self._data[_EXP_DEVSTA] |= (_DEVSTA_CORRECTABLE if correctable else 0) | (_DEVSTA_FATAL if fatal else 0)

    def reset(self) -> None:
        """Restore the values after power on, except sticky ones."""
        kept = self._data[_AER_STICKY]
        self._data[:] = self._layout.initial
        self._data[_AER_STICKY] = kept
