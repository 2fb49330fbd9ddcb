"""Read the node's devices from sysfs, where the mock_accel kernel module shows them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mock_accel_dra import failpoints, klog, numa, problems, window_shares
from mock_accel_dra.window_shares import WindowShare

CLASS_PATH = "class/mock-accel"
_TO_SYSFS = "../" * (CLASS_PATH.count("/") + 2)
"""From the folder of a device in the class to the mount point of sysfs."""
CAPABILITIES = ("compute", "encryption", "compression", "p2p-dma")
"""Names of the bits of the capabilities register, from bit 0."""
FREE, ALLOCATED = 0, 1
"""Values of the status register."""
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
"""The kernel formats domains with ``%04x``; domains of VMD start at 0x10000 and have more digits."""
_NUMBER = re.compile(r"(\d+):(\d+)")
"""Attribute ``dev`` of a device with a node: Documentation/ABI/testing/sysfs-dev of the kernel."""
_PCI_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")


class DeviceError(Exception):
    """A device cannot be read, or a value violates the kernel module's ABI."""


@dataclass(frozen=True)
class DeviceSettings:
    """Attributes that a claim can configure; None for one that the kernel module does not have."""

    mode: str | None = None
    """``exclusive`` or ``shared``."""
    job_limit: int | None = None
    """Jobs that may wait at once; 0: as many as the ring holds."""
    window_limit: int | None = None
    """Bytes of the window that may be used; 0: all."""


@dataclass(frozen=True)
class Device:
    """One mock accelerator."""

    name: str
    """Name in sysfs: ``mock0``, ``mock0_vf0``."""
    uuid: str
    memory: int
    """Bytes."""
    numa_node: int
    """-1 if the platform does not report it."""
    capabilities: tuple[str, ...]
    status: int
    """0 free, 1 allocated."""
    pci_address: str
    """``0000:11:00.0``."""
    pcie_root: str
    """``pci0000:10``: the host bridge in the device's path below /sys/devices; empty if there is none."""
    physfn: str | None = None
    """PCI address of the PF; None for a PF."""
    total_vfs: int = 0
    problem: str = ""
    """Why it cannot be used (``problems``); empty if it is healthy."""
    links: tuple[tuple[str, str], ...] = ()
    """Entries of its folder in sysfs, and where they are relative to ``class/mock-accel/<name>``, sorted:
    ``("uuid", "../../../devices/pci0000:10/…/mock-accel/mock0/uuid")``."""
    settings: DeviceSettings = DeviceSettings()
    window_size: int | None = None
    """Bytes of the device memory; None if the kernel module does not show it."""
    number: tuple[int, int] | None = None
    """Major and minor number of ``/dev/mock-accel/<name>``; None if the kernel module makes no device node."""
    hangs: int = 0
    """Jobs that did not end in time since the module was loaded."""
    shares: tuple[WindowShare, ...] | None = None
    """Shares that the kernel module has; None if it cannot enforce any."""
    near_nodes: tuple[int, ...] = ()
    """Its NUMA node and those as near to it (``numa``); empty if the platform does not report one."""
    detached: str = ""
    """Why it could not be attached to a node for a claim; empty if no claim needed that, or it was."""

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
class Constants:
    """Values of registers that a device keeps as long as it is plugged in."""

    folder: tuple[int, int]
    """Inode number and change time of its folder. sysfs numbers each folder once, so this is never true of another
    device in the same slot. If the kernel drops the inode from memory, the time changes, too, and all is read again."""
    uuid: str
    memory: int
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """Result of one scan of sysfs."""

    devices: tuple[Device, ...]
    """Sorted by name."""
    broken: Mapping[str, str]
    """Devices that exist but cannot be read, with the reason."""


def class_folder(root: Path) -> Path:
    """Folder with one entry per device, below ``root`` (``/sys`` or the mount point of the node's sysfs)."""
    return root / CLASS_PATH


def scan(root: Path, known: dict[str, Constants] | None = None) -> Scan:
    """All devices. A device that vanishes while it is read is left out and logged.

    ``known`` are constants by the names of devices, from earlier scans; they are not read again, because each register
    costs a message to the device server. The scan updates it.
    """
    folder = class_folder(root)
    try:
        names = sorted(os.listdir(folder), key=_natural)  # noqa: PTH208 - names are all that is wanted
    except FileNotFoundError:
        klog.info(klog.SCAN, "No device class: the kernel module is not loaded", folder=folder)
        return Scan((), {})
    known = {} if known is None else known
    for name in known.keys() - set(names):
        del known[name]
    devices, broken = [], {}
    for name in names:
        try:
            device = read_device(root, name, known)
        except (OSError, DeviceError) as error:
            if (folder / name / "device").exists():
                broken[name] = str(error)
            klog.info(klog.OPERATION, "Device cannot be read", device=name, there=name in broken, err=error)
            continue
        klog.info(klog.RESOURCE, "Read device", device=name, pci=device.pci_address, status=device.status)
        devices.append(device)
    return Scan(tuple(devices), broken)


def read_device(root: Path, name: str, known: dict[str, Constants] | None = None) -> Device:
    """Read device ``name`` below the sysfs mounted at ``root``.

    Constants are taken from ``known``, by the names of devices, or are added to it. Status and health are always read,
    so a device that does not respond is not mistaken for a healthy one.
    Raises OSError if it does not exist (any longer), DeviceError if a value
    violates the module's ABI (`kernel-driver/ABI/testing/sysfs-class-mock-accel`).
    """
    folder = class_folder(root) / name
    pci_folder = (folder / "device").resolve(strict=True)
    pci_address = pci_folder.name
    physfn = pci_folder / "physfn"
    try:
        parent = physfn.resolve(strict=True).name if physfn.is_symlink() else None
        constants = _constants(folder, known.get(name) if known else None)
        numa_node = _number(folder / "numa_node")
        device = Device(
            name=name,
            uuid=constants.uuid,
            memory=constants.memory,
            numa_node=numa_node,
            near_nodes=numa.near(root, numa_node) if numa_node >= 0 else (),
            capabilities=constants.capabilities,
            status=_number(folder / "status"),
            pci_address=_checked(_PCI_ADDRESS, pci_address, f"a PCI address as target of {folder}/device"),
            pcie_root=_pcie_root(pci_folder),
            physfn=parent,
            total_vfs=0 if parent else optional_number(folder / "sriov_totalvfs") or 0,
            links=_links(folder),
            settings=read_settings(root, name),
            window_size=optional_number(folder / "window_size"),
            number=_device_number(folder / "dev"),
            problem=problems.of_health(_optional(folder / "health")),
            hangs=optional_number(folder / "hangs") or 0,
            shares=read_shares(root, name),
        )
        if known is not None:
            known[name] = constants
        return device
    except RuntimeError as error:  # pathlib raises it for a loop of symbolic links
        raise DeviceError(str(error)) from error


def capability_names(bits: int) -> tuple[str, ...]:
    """Names of the capability bits; a bit without a name appears as ``bit7``."""
    names = [name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1]
    names += [f"bit{bit}" for bit in range(len(CAPABILITIES), bits.bit_length()) if bits >> bit & 1]
    return tuple(names)


def read_settings(root: Path, name: str) -> DeviceSettings:
    """The attributes that a claim can configure. Raises OSError, DeviceError."""
    folder = class_folder(root) / name
    return DeviceSettings(
        mode=_optional(folder / "mode"),
        job_limit=optional_number(folder / "job_limit"),
        window_limit=optional_number(folder / "window_limit"),
    )


def read_shares(root: Path, name: str) -> tuple[WindowShare, ...] | None:
    """Shares of a device in the kernel module; None if it has none to offer. Raises OSError, DeviceError."""
    text = _optional(class_folder(root) / name / window_shares.ATTRIBUTE)
    try:
        return None if text is None else window_shares.parse(text)
    except ValueError as error:
        raise DeviceError(f"attribute {window_shares.ATTRIBUTE} of {name}: {error}") from None


def set_attribute(root: Path, name: str, attribute: str, text: str) -> None:
    """Write an attribute of a device. Raises OSError."""
    failpoints.hit()
    with (class_folder(root) / name / attribute).open("w", encoding="ascii") as file:
        file.write(f"{text}\n")
    failpoints.hit()


def set_status(root: Path, name: str, status: int) -> None:
    """Write the status register: 1 allocated, 0 free, which resets what a claim can configure. Raises OSError."""
    set_attribute(root, name, "status", str(status))


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


def _links(folder: Path) -> tuple[tuple[str, str], ...]:
    """`Device.links` of the device whose entry in the class is ``folder``, itself a link below ``devices``."""
    # Links in sysfs are relative, and none of the folders that they pass is a link.
    place = PurePosixPath(CLASS_PATH) / folder.readlink()
    targets = {path.name: place / (path.readlink() if path.is_symlink() else path.name) for path in folder.iterdir()}
    return tuple(sorted((name, _TO_SYSFS + posixpath.normpath(target)) for name, target in targets.items()))


def _constants(folder: Path, known: Constants | None) -> Constants:
    """``known`` if it is of this folder, else what the registers have."""
    stat = folder.stat()
    identity = (stat.st_ino, stat.st_ctime_ns)
    if known is not None and known.folder == identity:
        return known
    return Constants(
        folder=identity,
        uuid=_read(folder / "uuid"),
        memory=_number(folder / "memory_size"),
        capabilities=capability_names(_number(folder / "capabilities", base=16)),
    )


def _number(path: Path, base: int = 10) -> int:
    text = _read(path)
    try:
        return int(text, base)
    except ValueError:
        raise DeviceError(f"{path}: expected a number of base {base}, found {text!r}") from None


def _optional(path: Path) -> str | None:
    """Content of an attribute, None if the kernel module does not have it."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None


def optional_number(path: Path) -> int | None:
    """Value of an attribute, None if the kernel module does not have it. Raises OSError, DeviceError."""
    try:
        return _number(path)
    except FileNotFoundError:
        return None


def _device_number(path: Path) -> tuple[int, int] | None:
    if (text := _optional(path)) is None:
        return None
    if (match := _NUMBER.fullmatch(text)) is None:
        raise DeviceError(f"{path}: expected major:minor, found {text!r}")
    return int(match[1]), int(match[2])


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise DeviceError(f"expected {what}, found {text!r}")
    return text


def _pcie_root(pci_folder: Path) -> str:
    """``resource.kubernetes.io/pcieRoot``, as k8s.io/dynamic-resource-allocation/deviceattribute derives it.

    Upstream reads only the first part below /sys/devices and omits the attribute if
    that is not a root, as on platforms whose path starts with a platform bridge
    (``platform/…/pci0000:00``); here the root may follow. The first root of the path
    counts: behind another bridge (VMD) a second root follows further down.
    """
    return next((part for part in pci_folder.parts if _PCI_ROOT.fullmatch(part)), "")
