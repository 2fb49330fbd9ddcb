"""CDI files: what the container runtime adds to a container that uses a device.

Container Device Interface specification 0.8.0, SPEC.md. Each device has one file
and, beside it, a copy of its sysfs link, to which the file refers.
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
_FOLDER_MODE = 0o755


def device_id(name: str) -> str:
    """Qualified name of a device, ``example.com/mock-accel=mock0``."""
    return f"{KIND}={name}"


def file_of(folder: Path, name: str) -> Path:
    """Path of the CDI file of device ``name``."""
    return folder / f"{KIND.replace('/', '_')}-{name}.json"


def link_of(folder: Path, name: str) -> Path:
    """Path of the copied link of device ``name``. Runtimes ignore it: CDI files end in ``.json`` or ``.yaml``."""
    return file_of(folder, name).with_suffix(".link")


def remove_half_written(folder: Path) -> None:
    """Remove temporary files of a driver that was killed while writing. Raises OSError."""
    for path_of in (file_of, link_of):
        files.remove_half_written(folder, path_of(folder, "*").name)


def names(folder: Path) -> set[str]:
    """Names of the devices that have a CDI file of this driver in ``folder``, or only a leftover link."""
    found = set()
    for path_of in (file_of, link_of):
        prefix, _, suffix = path_of(folder, "*").name.partition("*")
        found |= {path.name.removeprefix(prefix).removesuffix(suffix) for path in folder.glob(f"{prefix}*{suffix}")}
    return found


def spec(folder: Path, device: Device) -> dict[str, Any]:
    """Content of the CDI file of ``device`` in ``folder``; the container runtime must see ``folder`` at the same path.

    sysfs has no namespaces: without this file a container would see all devices of
    its node. An empty tmpfs covers the device class. The mount is equal for every
    device, and CDI keeps one mount per path. On it each device gets a copy of its own
    link into /sys/devices, by crun's mount option ``copy-symlink``. The link is
    relative and resolves in the container's own sysfs.

    crun copies the link in ``folder``, not the one in sysfs. For a pod with a user
    namespace (``hostUsers: false``) containerd adds the option ``idmap`` to every
    bind mount of a CDI file (container-device-interface, ``withIDMapForBindMount``).
    crun applies the ID mapping to the source before it handles ``copy-symlink``, and
    sysfs, unlike tmpfs, does not support ID-mapped mounts.
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
        {
            "hostPath": str(link_of(folder, device.name)),
            "containerPath": link,
            "type": "bind",
            "options": ["bind", "copy-symlink"],
        },
    ]
    return {
        "cdiVersion": CDI_VERSION,
        "kind": KIND,
        "devices": [{"name": device.name, "containerEdits": {"env": environment, "mounts": mounts}}],
    }


def is_right(folder: Path, device: Device) -> bool:
    """Whether the CDI file and link of ``device`` have the expected content. Raises OSError."""
    link = link_of(folder, device.name)
    try:
        found = str(link.readlink()) if link.is_symlink() else None
        text = file_of(folder, device.name).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return found == device.class_link and text == _text(folder, device)


def write(folder: Path, device: Device) -> bool:
    """Write the CDI file and link of ``device``; False if both were already right. Raises OSError."""
    if is_right(folder, device):
        return False
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # The runtime reads the link as the pod's root, which is not a user of the node.
        folder.chmod(_FOLDER_MODE)
    # The file refers to the link, so it is written last.
    files.link_atomically(link_of(folder, device.name), device.class_link)
    files.write_atomically(file_of(folder, device.name), _text(folder, device))
    return True


def delete(folder: Path, name: str) -> bool:
    """Remove the CDI file and link of device ``name``; False if neither existed. Raises OSError."""
    removed = [files.remove(file_of(folder, name)), files.remove(link_of(folder, name))]
    return any(removed)


def _text(folder: Path, device: Device) -> str:
    return json.dumps(spec(folder, device), indent=2) + "\n"
