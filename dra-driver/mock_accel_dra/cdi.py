"""CDI files: what a container gets that was given a device.

Container Device Interface specification 0.8.0, SPEC.md. One file a device.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mock_accel_dra import files
from mock_accel_dra.discovery import Device

CDI_VERSION = "0.8.0"
KIND = "example.com/mock-accel"
_CLASS_FOLDER = "/sys/class/mock-accel"


def device_id(name: str) -> str:
    """Qualified name of a device, ``example.com/mock-accel=mock0``."""
    return f"{KIND}={name}"


def file_of(folder: Path, name: str) -> Path:
    """Where the CDI file of device ``name`` is."""
    return folder / f"{KIND.replace('/', '_')}-{name}.json"


def remove_half_written(folder: Path) -> None:
    """Remove what a driver left that was killed while it wrote. Raises OSError."""
    files.remove_half_written(folder, file_of(folder, "*").name)


def names(folder: Path) -> set[str]:
    """Names of the devices that have a CDI file of this driver in ``folder``."""
    prefix, _, suffix = file_of(folder, "*").name.partition("*")
    found = folder.glob(f"{prefix}*{suffix}")
    return {path.name.removeprefix(prefix).removesuffix(suffix) for path in found}


def spec(device: Device) -> dict[str, Any]:
    """Content of the CDI file of ``device``.

    sysfs has no namespaces: a container would see all devices of its node. So an
    empty tmpfs covers the device class (the same mount for every device: CDI keeps
    one mount a path), and on it each device gets a copy of its own link into
    /sys/devices, by crun's mount option ``copy-symlink``. The link is relative
    and resolves in the container's own sysfs.
    """
    values = {"DEVICE": device.name, "UUID": device.uuid, "PCI": device.pci_address}
    environment = [f"MOCK_ACCEL_{key}={value}" for key, value in values.items()]
    environment += [f"MOCK_ACCEL_{key}_{device.name.upper()}={value}" for key, value in values.items()]
    link = f"{_CLASS_FOLDER}/{device.name}"
    mounts = [
        {
            "hostPath": "tmpfs",
            "containerPath": _CLASS_FOLDER,
            "type": "tmpfs",
            "options": ["nosuid", "nodev", "noexec", "mode=0755", "size=64k"],
        },
        {"hostPath": link, "containerPath": link, "type": "bind", "options": ["bind", "copy-symlink"]},
    ]
    return {
        "cdiVersion": CDI_VERSION,
        "kind": KIND,
        "devices": [{"name": device.name, "containerEdits": {"env": environment, "mounts": mounts}}],
    }


def is_right(folder: Path, device: Device) -> bool:
    """Whether the CDI file of ``device`` says what it must. Raises OSError."""
    try:
        return file_of(folder, device.name).read_text(encoding="utf-8") == _text(device)
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def write(folder: Path, device: Device) -> bool:
    """Make the CDI file of ``device`` say what it must; False when it did already. Raises OSError."""
    if is_right(folder, device):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(file_of(folder, device.name), _text(device))
    return True


def delete(folder: Path, name: str) -> bool:
    """Remove the CDI file of device ``name``; False when there was none. Raises OSError."""
    return files.remove(file_of(folder, name))


def _text(device: Device) -> str:
    return json.dumps(spec(device), indent=2) + "\n"
