"""CDI files: what a container gets that was given a device.

Container Device Interface specification 0.8.0, SPEC.md. One file a device, and
beside it a copy of the device's link, which the file names.
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
    """Where the CDI file of device ``name`` is."""
    return folder / f"{KIND.replace('/', '_')}-{name}.json"


def link_of(folder: Path, name: str) -> Path:
    """Where the copy of the link of device ``name`` is. No runtime takes it for a CDI file: that ends in ``.json``."""
    return file_of(folder, name).with_suffix(".link")


def remove_half_written(folder: Path) -> None:
    """Remove what a driver left that was killed while it wrote. Raises OSError."""
    for path_of in (file_of, link_of):
        files.remove_half_written(folder, path_of(folder, "*").name)


def names(folder: Path) -> set[str]:
    """Names of the devices that have a CDI file of this driver in ``folder``, or a link that was left without one."""
    found = set()
    for path_of in (file_of, link_of):
        prefix, _, suffix = path_of(folder, "*").name.partition("*")
        found |= {path.name.removeprefix(prefix).removesuffix(suffix) for path in folder.glob(f"{prefix}*{suffix}")}
    return found


def spec(folder: Path, device: Device) -> dict[str, Any]:
    """Content of the CDI file of ``device`` in ``folder``, which has the same path for the container runtime.

    sysfs has no namespaces: a container would see all devices of its node. So an
    empty tmpfs covers the device class (the same mount for every device: CDI keeps
    one mount a path), and on it each device gets a copy of its own link into
    /sys/devices, by crun's mount option ``copy-symlink``. The link is relative
    and resolves in the container's own sysfs.

    What crun copies is the link in ``folder``, not the one in sysfs: for a pod with a
    user namespace (``hostUsers: false``) containerd adds the option ``idmap`` to every
    bind mount of a CDI file (container-device-interface, ``withIDMapForBindMount``), crun
    then gives what it mounts the pod's users before it looks at ``copy-symlink``, and
    sysfs, unlike tmpfs, has no such mounts.
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
    """Whether CDI file and link of ``device`` say what they must. Raises OSError."""
    link = link_of(folder, device.name)
    try:
        found = str(link.readlink()) if link.is_symlink() else None
        text = file_of(folder, device.name).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return found == device.class_link and text == _text(folder, device)


def write(folder: Path, device: Device) -> bool:
    """Make CDI file and link of ``device`` say what they must; False when they did already. Raises OSError."""
    if is_right(folder, device):
        return False
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # The runtime reads the link as the pod's own root, who is no user of the node.
        folder.chmod(_FOLDER_MODE)
    # The file names the link, so it comes last.
    files.link_atomically(link_of(folder, device.name), device.class_link)
    files.write_atomically(file_of(folder, device.name), _text(folder, device))
    return True


def delete(folder: Path, name: str) -> bool:
    """Remove CDI file and link of device ``name``; False when there were none. Raises OSError."""
    removed = [files.remove(file_of(folder, name)), files.remove(link_of(folder, name))]
    return any(removed)


def _text(folder: Path, device: Device) -> str:
    return json.dumps(spec(folder, device), indent=2) + "\n"
