"""A folder with the sysfs layout of a node with mock accelerators."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

_WRITE_SECONDS = 5.0
CAPABILITY_BITS = {"compute": 1, "encryption": 2, "compression": 4, "p2p-dma": 8}

DEFAULTS = {"mode": "exclusive", "job_limit": "0", "window_limit": "0"}
"""Attributes that a claim can configure, as the module resets them."""


class SysfsTree:
    """Devices as the mock_accel module exposes them: class links, PCI folders, ``physfn``.

    The layout was recorded on Linux: ``class/mock-accel/mock0`` is a relative link to
    ``devices/pci0000:10/0000:10:00.0/0000:11:00.0/mock-accel/mock0``, which holds the
    attributes, a folder ``power`` and links ``device`` to the PCI folder and ``subsystem`` to the class.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.classes = root / "class" / "mock-accel"
        self.classes.mkdir(parents=True)
        (root / "devices").mkdir()

    def add(
        self,
        name: str,
        address: str,
        *,
        root_bus: int = 0x10,
        uuid: str = "",
        memory: int = 16 << 30,
        numa_node: int = 0,
        capabilities: tuple[str, ...] = ("compute",),
        physfn: str | None = None,
        total_vfs: int | None = None,
        bridges: str = "",
        window: int | None = None,
        shares: bool = False,
    ) -> Path:
        """Add a device; ``physfn`` is the PCI address of a VF's parent. Returns the folder of its attributes.

        ``bridges`` overrides the folders between ``devices`` and the device, which otherwise follow ``root_bus``.
        ``window`` are the bytes of its memory; with it the device has the attributes of a module that runs jobs.
        With ``shares`` the module enforces shares of the device, too.
        """
        bridges = bridges or f"pci0000:{root_bus:02x}/0000:{root_bus:02x}:00.0"
        pci = self.root / "devices" / bridges / address
        folder = pci / "mock-accel" / name
        folder.mkdir(parents=True)
        values = {
            "uuid": uuid or f"UUID-{name}",
            "memory_size": str(memory),
            "numa_node": str(numa_node),
            "capabilities": f"{sum(CAPABILITY_BITS[bit] for bit in capabilities):#x}",
            "status": "0",
        }
        if physfn is None:
            values |= {"sriov_totalvfs": str(total_vfs or 0), "sriov_numvfs": "0"}
        else:
            (pci / "physfn").symlink_to(f"../{physfn}")
        if window is not None:
            # As the module numbers them, by the order in which it finds them.
            number = f"240:{len(list(self.classes.iterdir()))}"
            values |= {**DEFAULTS, "window_size": str(window), "dev": number, "health": "ok", "reset": ""}
            values |= {
                "temp1_input": "41500",
                "temp1_max": "95000",
                "jobs": "0",
                "jobs_failed": "0",
                "bytes": "0",
                "hangs": "0",
            }
        if shares:
            values["shares"] = ""
        for attribute, value in values.items():
            (folder / attribute).write_text(f"{value}\n")
        (folder / "device").symlink_to("../../../" + address)
        (folder / "subsystem").symlink_to(os.path.relpath(self.classes, folder))
        (folder / "power").mkdir()
        (self.classes / name).symlink_to(os.path.relpath(folder, self.classes))
        return folder

    def remove(self, name: str) -> None:
        """Unplug a device."""
        folder = (self.classes / name).resolve()
        (self.classes / name).unlink()
        shutil.rmtree(folder.parents[1])

    def status(self, name: str) -> int:
        """Value of the status register."""
        # Unlike a sysfs attribute, a regular file is empty while it is written: on a busy machine for longer.
        end = time.monotonic() + _WRITE_SECONDS
        while time.monotonic() < end:
            if text := (self.classes / name / "status").read_text():
                return int(text)
        raise AssertionError(f"status of {name} is empty for {_WRITE_SECONDS:.0f} s")

    def set_status(self, name: str, status: int) -> None:
        """Change the status register behind the driver's back."""
        (self.classes / name / "status").write_text(f"{status}\n")

    def read(self, name: str, attribute: str) -> str:
        """Content of an attribute."""
        return (self.classes / name / attribute).read_text().strip()

    def write(self, name: str, attribute: str, value: str) -> None:
        """Change an attribute behind the driver's back; for the driver, the folder is another one then."""
        # By rename, because a reader must not see an empty file.
        beside = self.root / f"{name}.{attribute}"
        beside.write_text(f"{value}\n")
        beside.rename(self.classes / name / attribute)

    def settings(self, name: str) -> tuple[str, ...]:
        """Values of the attributes that a claim can configure, in the order of DEFAULTS."""
        return tuple(self.read(name, attribute) for attribute in DEFAULTS)

    def reset_settings(self, name: str) -> None:
        """Set the attributes that a claim can configure to DEFAULTS, as the module does when the device is freed."""
        for attribute, value in DEFAULTS.items():
            self.write(name, attribute, value)
        if (self.classes / name / "shares").exists():
            self.write(name, "shares", "")

    def change_shares(self, name: str, text: str) -> None:
        """Change the shares of a device as the module does when ``text`` is written. Raises OSError."""
        lines = [line.split() for line in self.read(name, "shares").splitlines()]
        there = {line[0]: line for line in lines}
        words = text.split()
        if (words[1] in there) == (words[0] == "add"):
            raise OSError(22, "Invalid argument")
        if words[0] == "remove":
            del there[words[1]]
        else:
            minors = {int(line[4]) for line in lines}
            minor = next(number for number in range(256, 512) if number not in minors)
            there[words[1]] = [*words[1:], str(minor)]
        self.write(name, "shares", "\n".join(" ".join(line) for line in there.values()))

    def names(self) -> list[str]:
        """Names of all devices."""
        return sorted(path.name for path in self.classes.iterdir())
