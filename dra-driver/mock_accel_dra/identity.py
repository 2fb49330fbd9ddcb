"""Identity of a device independent of its name: uuid and PCI address.

The kernel module numbers devices in PCI order, so a name may refer to another
device after a device was unplugged and the node rebooted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra.discovery import Device, class_folder


@dataclass(frozen=True)
class Identity:
    """A device, independent of its name."""

    uuid: str
    pci_address: str

    def __str__(self) -> str:
        return f"{self.uuid} at {self.pci_address}"


def of(device: Device) -> Identity:
    """Identity of ``device``."""
    return Identity(device.uuid, device.pci_address)


def read(sysfs: Path, name: str) -> Identity:
    """Identity of the device called ``name``. Raises OSError if it does not exist or does not respond."""
    folder = class_folder(sysfs) / name
    uuid = (folder / "uuid").read_text(encoding="ascii", errors="replace").strip()
    return Identity(uuid, (folder / "device").resolve(strict=True).name)
