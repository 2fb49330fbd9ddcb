"""What tells one device from another, whatever its name: uuid and PCI address.

The kernel module numbers devices in PCI order, so a name may mean another
device after one was unplugged and the node was booted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra.discovery import Device, class_folder


@dataclass(frozen=True)
class Identity:
    """One device, whatever its name."""

    uuid: str
    pci_address: str

    def __str__(self) -> str:
        return f"{self.uuid} at {self.pci_address}"


def of(device: Device) -> Identity:
    """Identity of ``device``."""
    return Identity(device.uuid, device.pci_address)


def read(sysfs: Path, name: str) -> Identity:
    """Identity of the device called ``name``. Raises OSError when it is not there or does not answer."""
    folder = class_folder(sysfs) / name
    uuid = (folder / "uuid").read_text(encoding="ascii", errors="replace").strip()
    return Identity(uuid, (folder / "device").resolve(strict=True).name)
