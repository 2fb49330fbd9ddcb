"""CDI files: what the container runtime adds to a container that uses a device.

Container Device Interface specification 0.8.0, SPEC.md. Each device has one file
and, beside it, a folder of links into sysfs, which the file mounts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mock_accel_dra import files
from mock_accel_dra.configuration import DEFAULTS, Configuration
from mock_accel_dra.discovery import Device
from mock_accel_dra.shares import Share, cdi_name

CDI_VERSION = "0.8.0"
KIND = "example.com/mock-accel"
_CLASS_FOLDER = "/sys/class/mock-accel"
NODES = "/dev/mock-accel"
"""Folder of the device nodes, on the node and in containers."""
_NODE_MODE, _NODE_PERMISSIONS = 0o666, "rw"
"""Any user of the container may open the device node; the permissions are those of the container's cgroup. No other
container gets either."""
_FOLDER_MODE = 0o755
_MOUNT_OPTIONS = ("ro", "nosuid", "nodev", "noexec")


def device_id(name: str) -> str:
    """Qualified name of a device or of a share of it, ``example.com/mock-accel=mock0``."""
    return f"{KIND}={name}"


def file_of(folder: Path, name: str) -> Path:
    """Path of the CDI file of device ``name``."""
    return folder / f"{KIND.replace('/', '_')}-{name}.json"


def links_of(folder: Path, name: str) -> Path:
    """Path of the folder of links of device ``name``. Runtimes ignore it: CDI files end in ``.json`` or ``.yaml``."""
    return file_of(folder, name).with_suffix(".links")


def _old_link_of(folder: Path, name: str) -> Path:
    """Path of the link that earlier drivers wrote instead of the folder."""
    return file_of(folder, name).with_suffix(".link")


_PATHS = (file_of, links_of, _old_link_of)
"""All that belongs to a device, in the order in which it is removed."""


def remove_half_written(folder: Path) -> None:
    """Remove temporary files of a driver that was killed while writing. Raises OSError."""
    for path_of in _PATHS:
        files.remove_half_written(folder, path_of(folder, "*").name)


def names(folder: Path) -> set[str]:
    """Names of the CDI devices that have a CDI file of this driver in ``folder``, or leftovers of one."""
    found = set()
    for path_of in _PATHS:
        prefix, _, suffix = path_of(folder, "*").name.partition("*")
        found |= {path.name.removeprefix(prefix).removesuffix(suffix) for path in folder.glob(f"{prefix}*{suffix}")}
    return found


def spec(
    folder: Path, device: Device, configuration: Configuration = DEFAULTS, share: Share | None = None
) -> dict[str, Any]:
    """Content of the CDI file of ``device`` in ``folder``; the container runtime must see ``folder`` at the same path.

    ``configuration`` is what the claim that has the device configures of it, ``share`` the share of the device that
    the claim has. A share has its own device node in the kernel module, under the path of the device.

    The runtime makes the device node in the container's ``/dev`` and allows it in the container's cgroup. A device
    without a number gets no node: its kernel module makes none.

    sysfs has no namespaces: without this file a container would see all devices of
    its node. An empty tmpfs covers the device class. The mount is equal for every
    device, and CDI keeps one mount per path. On it each device gets its folder of
    links, which resolve in the container's own sysfs. Both mounts are read-only.

    The file uses only mounts and options that every OCI runtime has. Binding the
    device's folder in sysfs instead would break its relative links, and fail for a
    pod with a user namespace (``hostUsers: false``): the option ``idmap`` is added to
    every bind mount of a CDI file (container-device-interface,
    ``withIDMapForBindMount``), and sysfs, unlike tmpfs, does not support it.
    """
    values = {"DEVICE": device.name, "UUID": device.uuid, "PCI": device.pci_address, **configuration.variables()}
    name = device.name
    if share is not None:
        name = cdi_name(device.name, share.id)
        values |= _variables(share)
    environment = [f"MOCK_ACCEL_{key}={value}" for key, value in values.items()]
    environment += [f"MOCK_ACCEL_{key}_{device.name.upper()}={value}" for key, value in values.items()]
    mounts = [
        {
            "hostPath": "tmpfs",
            "containerPath": _CLASS_FOLDER,
            "type": "tmpfs",
            "options": [*_MOUNT_OPTIONS, "mode=0755", "size=64k"],
        },
        {
            "hostPath": str(links_of(folder, name)),
            "containerPath": f"{_CLASS_FOLDER}/{device.name}",
            "type": "bind",
            "options": ["bind", *_MOUNT_OPTIONS],
        },
    ]
    edits: dict[str, Any] = {"env": environment, "mounts": mounts}
    if (number := _number(device, share)) is not None:
        major, minor = number
        node = {"path": f"{NODES}/{device.name}", "type": "c", "major": major, "minor": minor}
        edits["deviceNodes"] = [{**node, "fileMode": _NODE_MODE, "permissions": _NODE_PERMISSIONS}]
    return {"cdiVersion": CDI_VERSION, "kind": KIND, "devices": [{"name": name, "containerEdits": edits}]}


def _variables(share: Share) -> dict[str, str]:
    """Environment variables of a share, without their prefix; memory and window in bytes."""
    limits = {"WINDOW_SIZE": share.size, "MAX_JOBS": share.jobs}
    return {
        "SHARE": share.id,
        "SHARE_MEMORY": str(share.memory),
        **{name: str(item) for name, item in limits.items() if item},
    }


def _number(device: Device, share: Share | None) -> tuple[int, int] | None:
    """Major and minor number of the node; None if there is none (yet)."""
    if device.number is None or share is None or share.is_whole:
        return device.number
    minors = [item.minor for item in device.shares or () if item.id == share.id]
    return (device.number[0], minors[0]) if minors else None


def is_right(folder: Path, device: Device, configuration: Configuration = DEFAULTS, share: Share | None = None) -> bool:
    """Whether the CDI file and links of ``device``, or of a share of it, are as expected. Raises OSError."""
    name = cdi_name(device.name, share.id if share else "")
    try:
        links = files.links_in(links_of(folder, name))
        text = file_of(folder, name).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return False
    return links == dict(device.links) and text == _text(folder, device, configuration, share)


def write(folder: Path, device: Device, configuration: Configuration = DEFAULTS, share: Share | None = None) -> bool:
    """Write the CDI file and links of ``device``, or of a share; False if all were already right. Raises OSError."""
    if is_right(folder, device, configuration, share):
        return False
    name = cdi_name(device.name, share.id if share else "")
    if not folder.is_dir():
        folder.mkdir(parents=True)
        # The container's processes reach the links as the pod's root, which is not a user of the node.
        folder.chmod(_FOLDER_MODE)
    # The file refers to the links, so it is written last.
    files.make_folder_of_links(links_of(folder, name), dict(device.links))
    files.write_atomically(file_of(folder, name), _text(folder, device, configuration, share))
    if (old := _old_link_of(folder, name)).is_symlink():
        files.remove(old)
    return True


def delete(folder: Path, name: str) -> bool:
    """Remove the CDI file and links of device ``name``; False if there were none. Raises OSError."""
    there = [path for path_of in _PATHS if os.path.lexists(path := path_of(folder, name))]
    for path in there:
        files.remove(path)
    return bool(there)


def _text(folder: Path, device: Device, configuration: Configuration, share: Share | None) -> str:
    return json.dumps(spec(folder, device, configuration, share), indent=2) + "\n"
