"""A mock accelerator: its registers and its regions, whoever is connected."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from errno import EINVAL

from mock_accel_server.config_space import BAR0_BYTES, CONFIG_BYTES, ConfigSpace
from mock_accel_server.protocol import MAX_DATA_BYTES, RequestError
from topology import Function

UUID_BYTES = 16
_ID, _REVISION = 0x4D4F434B, 0x00010000
_STATUS = 0x2C
_STATUS_ALLOCATED = 1

# linux/vfio.h: regions and IRQ types of a PCI device.
REGION_BAR0, REGION_CONFIG, REGION_COUNT = 0, 7, 9
IRQ_ERR, IRQ_REQ, IRQ_COUNT = 3, 4, 5


@dataclass(frozen=True)
class DeviceSpec:
    """What a device says of itself."""

    uuid: str
    memory: int
    """Bytes."""
    capabilities: int
    """Value of the capabilities register."""
    is_vf: bool = False
    total_vfs: int = 0
    multifunction: bool = False

    @staticmethod
    def of(function: Function) -> DeviceSpec:
        """The device that a topology describes."""
        return DeviceSpec(
            uuid=function.uuid,
            memory=function.memory,
            capabilities=function.capability_bits,
            is_vf=function.is_vf,
            total_vfs=function.total_vfs,
            multifunction=function.multifunction,
        )


class Device:
    """Registers in BAR0 (design: "Device: registers and PCI") and configuration space."""

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self._config = ConfigSpace(is_vf=spec.is_vf, multifunction=spec.multifunction)
        self._bar0 = bytearray(BAR0_BYTES)
        struct.pack_into("<II", self._bar0, 0x00, _ID, _REVISION)
        struct.pack_into(f"{UUID_BYTES}s", self._bar0, 0x08, spec.uuid.encode("ascii"))
        struct.pack_into("<QI", self._bar0, 0x20, spec.memory, spec.capabilities)

    @property
    def status(self) -> int:
        """Status register: 0 free, 1 allocated."""
        return self._bar0[_STATUS]

    @staticmethod
    def region_bytes(region: int) -> int:
        """Size of a region; 0 for one that the device has not. Raises RequestError for no region at all."""
        if not 0 <= region < REGION_COUNT:
            raise RequestError(EINVAL, f"region {region}, expected 0 to {REGION_COUNT - 1}")
        return {REGION_BAR0: BAR0_BYTES, REGION_CONFIG: CONFIG_BYTES}.get(region, 0)

    @staticmethod
    def irq_count(irq: int) -> int:
        """Interrupts of a type: the device raises none, but has the two that VFIO devices report errors by."""
        if not 0 <= irq < IRQ_COUNT:
            raise RequestError(EINVAL, f"IRQ type {irq}, expected 0 to {IRQ_COUNT - 1}")
        return int(irq in (IRQ_ERR, IRQ_REQ))

    def reset(self) -> None:
        """Device reset: free, and unconfigured as after power-on."""
        self._config.reset()
        self._bar0[_STATUS] = 0

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Read a region. Raises RequestError when that is not inside it."""
        self._check(region, offset, count)
        if region == REGION_CONFIG:
            return self._config.read(offset, count)
        return bytes(self._bar0[offset : offset + count])

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region; what is read-only keeps its value. Raises RequestError when that is not inside it.

        Of the status register only bit 0 can be set.
        """
        self._check(region, offset, len(data))
        if region == REGION_CONFIG:
            self._config.write(offset, data)
        elif offset <= _STATUS < offset + len(data):
            self._bar0[_STATUS] = data[_STATUS - offset] & _STATUS_ALLOCATED

    def _check(self, region: int, offset: int, count: int) -> None:
        size = self.region_bytes(region)
        if not 0 < count <= MAX_DATA_BYTES or offset + count > size:
            raise RequestError(EINVAL, f"{count} bytes at {offset:#x} of region {region}, which has {size}")
