"""Devices of this node, as the mock_accel kernel module shows them in sysfs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra import faults, klog

CLASS_PATH = "class/mock-accel"
CAPABILITIES = ("compute", "encryption", "compression", "p2p-dma")
"""Names of the bits of the capabilities register, from bit 0."""
FREE, ALLOCATED = 0, 1
"""Values of the status register."""
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
"""The kernel writes domains with ``%04x``: those of VMD, from 0x10000, have more digits."""
_PCI_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")


class DeviceError(Exception):
    """A device that cannot be read, or does not look as the kernel module's ABI says."""


@dataclass(frozen=True)
class Device:
    """One mock accelerator."""

    name: str
    """Name in sysfs: ``mock0``, ``mock0_vf0``."""
    uuid: str
    memory: int
    """Bytes."""
    numa_node: int
    """-1 when the platform does not say."""
    capabilities: tuple[str, ...]
    status: int
    """0 free, 1 allocated."""
    pci_address: str
    """``0000:11:00.0``."""
    pcie_root: str
    """``pci0000:10``: the host bridge in the device's path below /sys/devices; empty when there is none."""
    physfn: str | None = None
    """PCI address of the PF; None for a PF."""
    total_vfs: int = 0
    problem: str = ""
    """Why it cannot be used, a word in CamelCase; empty when it is healthy."""
    class_link: str = ""
    """What its link in the class folder says, ``../../devices/pci0000:10/…/mock-accel/mock0``."""

    @property
    def is_vf(self) -> bool:
        return self.physfn is not None

    @property
    def published_name(self) -> str:
        """Name in ResourceSlices, which must be a DNS label."""
        return published_name(self.name)


def published_name(name: str) -> str:
    """Name in ResourceSlices of the device called ``name`` in sysfs."""
    return name.replace("_", "-")


@dataclass(frozen=True)
class Scan:
    """What one look at sysfs found."""

    devices: tuple[Device, ...]
    """By name."""
    broken: Mapping[str, str]
    """Devices that are there but cannot be read, and why."""


def class_folder(root: Path) -> Path:
    """Folder with one entry a device, below ``root`` (``/sys`` or where the node's is mounted)."""
    return root / CLASS_PATH


def scan(root: Path) -> Scan:
    """All devices. One that vanishes while it is read is left out, with a log line."""
    folder = class_folder(root)
    try:
        names = sorted(os.listdir(folder), key=_natural)  # noqa: PTH208 - names are all that is wanted
    except FileNotFoundError:
        klog.info(klog.SCAN, "No device class: the kernel module is not loaded", folder=folder)
        return Scan((), {})
    devices, broken = [], {}
    for name in names:
        try:
            device = read_device(root, name)
        except (OSError, DeviceError) as error:
            if (folder / name / "device").exists():
                broken[name] = str(error)
            klog.info(klog.OPERATION, "Device cannot be read", device=name, there=name in broken, err=error)
            continue
        klog.info(klog.RESOURCE, "Read device", device=name, pci=device.pci_address, status=device.status)
        devices.append(device)
    return Scan(tuple(devices), broken)


def read_device(root: Path, name: str) -> Device:
    """Read device ``name`` below the sysfs mounted at ``root``.

    Raises OSError when it is not there (any more), DeviceError when a value is
    not what the module's ABI (docs, `kernel-driver/`) promises.
    """
    folder = class_folder(root) / name
    pci_folder = (folder / "device").resolve(strict=True)
    pci_address = pci_folder.name
    physfn = pci_folder / "physfn"
    try:
        parent = physfn.resolve(strict=True).name if physfn.is_symlink() else None
        return Device(
            name=name,
            uuid=_read(folder / "uuid"),
            memory=_number(folder / "memory_size"),
            numa_node=_number(folder / "numa_node"),
            capabilities=capability_names(_number(folder / "capabilities", base=16)),
            status=_number(folder / "status"),
            pci_address=_checked(_PCI_ADDRESS, pci_address, f"a PCI address as target of {folder}/device"),
            pcie_root=_pcie_root(pci_folder),
            physfn=parent,
            total_vfs=0 if parent else _optional_number(folder / "sriov_totalvfs"),
            class_link=str(folder.readlink()),
        )
    except RuntimeError as error:  # pathlib's word for a loop of symbolic links
        raise DeviceError(str(error)) from error


def capability_names(bits: int) -> tuple[str, ...]:
    """Names of the capability bits; a bit that has no name appears as ``bit7``."""
    names = [name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1]
    names += [f"bit{bit}" for bit in range(len(CAPABILITIES), bits.bit_length()) if bits >> bit & 1]
    return tuple(names)


def set_status(root: Path, name: str, status: int) -> None:
    """Write the status register: 1 allocated, 0 free. Raises OSError."""
    faults.point()
    with (class_folder(root) / name / "status").open("w", encoding="ascii") as file:
        file.write(f"{status}\n")
    faults.point()


def get_status(root: Path, name: str) -> int:
    """Read the status register. Raises OSError, DeviceError."""
    return _number(class_folder(root) / name / "status")


def _natural(name: str) -> list[int | str]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))]


def _read(path: Path) -> str:
    data = path.read_bytes().strip()
    if not data.isascii():
        raise DeviceError(f"{path}: expected ASCII, found {data!r}")
    return data.decode("ascii")


def _number(path: Path, base: int = 10) -> int:
    text = _read(path)
    try:
        return int(text, base)
    except ValueError:
        raise DeviceError(f"{path}: expected a number of base {base}, found {text!r}") from None


def _optional_number(path: Path) -> int:
    try:
        return _number(path)
    except FileNotFoundError:
        return 0


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise DeviceError(f"expected {what}, found {text!r}")
    return text


def _pcie_root(pci_folder: Path) -> str:
    """``resource.kubernetes.io/pcieRoot``, as k8s.io/dynamic-resource-allocation/deviceattribute derives it.

    That looks at the first part below /sys/devices alone, and has no attribute
    where it is not the root: a bridge of the platform comes before it there
    (``platform/…/pci0000:00``). The first root is taken, because a bridge behind
    another one (VMD) has a root of its own further down.
    """
    return next((part for part in pci_folder.parts if _PCI_ROOT.fullmatch(part)), "")
