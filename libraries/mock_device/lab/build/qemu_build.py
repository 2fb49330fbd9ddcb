"""QEMU with vfio-user: the host's QEMU if it is new enough, else Debian's backport in a tree in the cache."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian
from mock_device.lab.build.store import cached

_NEEDED = (10, 1)
_DEVICE = "vfio-user-pci"
_PACKAGES = "qemu-system-x86 qemu-utils"
_BACKPORTS = f"{debian.SUITE}-backports"
HOOKS = (
    f'sed -n "s/ {debian.SUITE} / {_BACKPORTS} /p" "$1/etc/apt/sources.list" '
    '> "$1/etc/apt/sources.list.d/backports.list"',
    'chroot "$1" apt-get update',
    f'chroot "$1" apt-get install -y --no-install-recommends -t {_BACKPORTS} {_PACKAGES}',
)
"""Shell commands that install QEMU in a Debian tree, which they get as ``$1``."""


@dataclass(frozen=True)
class Qemu:
    """How to run QEMU's programs."""

    system_argv: list[str]
    """``qemu-system-x86_64`` and the options that must come first."""
    img_argv: list[str]
    """``qemu-img``."""
    version: str
    env: dict[str, str] = field(default_factory=dict)


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor version from ``qemu-system-x86_64 --version``; (0, 0) if the text has none."""
    found = re.search(r"version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _check(qemu: Qemu) -> str:
    """Why ``qemu`` cannot be used, or an empty string."""
    output = run(
        [*qemu.system_argv, "-machine", "q35", "-device", "help"], env=qemu.env, timeout=Timeout.QEMU_VERSION.seconds
    )
    return "" if f'"{_DEVICE}"' in output.decode() else f"it has no device {_DEVICE}"


def _host_qemu() -> Qemu | None:
    system, image = shutil.which("qemu-system-x86_64"), shutil.which("qemu-img")
    if not system or not image:
        return None
    version = run([system, "--version"], timeout=Timeout.QEMU_VERSION.seconds).decode()
    if parse_version(version) < _NEEDED:
        return None
    qemu = Qemu([system], [image], "{}.{}".format(*parse_version(version)))
    return None if _check(qemu) else qemu


def _tree_qemu(root: Path) -> Qemu:
    """QEMU of a Debian tree, run with the tree's own loader and libraries instead of the host's."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = [str(root / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    data = ["-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios")]
    system = [*loader, str(root / "usr/bin/qemu-system-x86_64")]
    env = {"QEMU_MODULE_DIR": str(libraries / "qemu")}
    version = run([*system, "--version"], timeout=Timeout.QEMU_VERSION.seconds, env=env).decode()
    text = "{}.{}".format(*parse_version(version))
    return Qemu([*system, *data], [*loader, str(root / "usr/bin/qemu-img")], text, env)


@cache
def ensure_qemu() -> Qemu:
    """QEMU 10.1 or newer with vfio-user-pci. Raises StepError."""
    if host := _host_qemu():
        return host

    def build(folder: Path) -> None:
        debian.tree(folder / "root", [], log=log_path("qemu"), hooks=HOOKS)
        qemu = _tree_qemu(folder / "root")
        if reason := _check(qemu):
            raise StepError(f"QEMU {qemu.version} of {_BACKPORTS} cannot be used: {reason}", log_path("qemu"))

    inputs = {"hooks": HOOKS, "suite": debian.SUITE}
    return _tree_qemu(cached("qemu", inputs, build, what="install QEMU in a separate tree (once)") / "root")
