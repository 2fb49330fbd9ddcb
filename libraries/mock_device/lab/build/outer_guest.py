"""The outer guest of ``make test-kvm``: a Debian with Python and QEMU, in whose ``/dev/kvm`` the lab runs guests."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian, node_image, qemu_build
from mock_device.lab.build.images import PYTHON_VERSION, install_command
from mock_device.lab.build.rootless import as_root, in_tree
from mock_device.lab.build.store import Input, cached

PACKAGES = (
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "kmod",
    "udev",
    "mount",
    "procps",
    "iproute2",
    "nftables",
    "openssh-client",
    "e2fsprogs",
    "python3",
)
INIT = Path(__file__).parent / "data" / "kvm" / "outer-init"
"""The first process of the outer guest."""
MATERIAL = Path("/material")
"""Where it mounts its second disk."""
SITE = "/usr/local/lib/lab"
"""Where it has the Python packages with which lab and suites run."""
_REQUIREMENTS = PROJECT / "requirements.txt"
_CHECKS = "# checks"
"""Comment in requirements.txt before what the lab does not run with."""
_WITHOUT_WHEEL = "robotframework-sshlibrary"
"""Package in requirements.txt, in Python only, of which there is no wheel."""
_INITRAMFS = node_image.DATA / "etc/initramfs-tools"
_DISK_BYTES = 2 << 30


@dataclass(frozen=True)
class OuterGuest:
    """What the outer guest boots from."""

    disk: Path
    kernel: Path
    initrd: Path


def requirements() -> str:
    """The part of requirements.txt with which lab and suites run. Raises StepError."""
    needed, found, _ = _REQUIREMENTS.read_text().partition(_CHECKS)
    if not found:
        raise StepError(f"{_REQUIREMENTS}: expected a line {_CHECKS!r} after what the lab runs with, found none")
    return needed


def disk_command(tree: Path, disk: Path, size: int) -> list[str | Path]:
    """The command that creates ``disk``, a file system of at most ``size`` bytes with the content of ``tree``."""
    options = ["-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0"]
    return ["mke2fs", "-q", "-t", "ext4", *options, "-d", tree, disk, f"{size >> 10}k"]


def _install_packages(target: Path, work: Path, log: Path) -> None:
    """Install Python packages for Debian's Python into the new folder ``target``, by pip on this machine."""
    wanted, wheels = work / "requirements.txt", work / "wheels"
    wanted.write_text(requirements())
    # For another version of Python pip takes wheels only.
    lacking = [line for line in requirements().splitlines() if line.startswith(_WITHOUT_WHEEL)]
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, *lacking],
        log=log,
        timeout=Timeout.OUTER_GUEST.seconds,
    )
    argv = [*install_command(target), "--find-links", wheels, "-r", wanted]
    run(argv, log=log, timeout=Timeout.OUTER_GUEST.seconds)
    wanted.unlink()
    shutil.rmtree(wheels)


def _build(folder: Path) -> None:
    log, tree = log_path("outer-guest"), folder / "tree"
    debian.tree(tree, PACKAGES, log=log, hooks=qemu_build.HOOKS)
    shutil.copytree(_INITRAMFS, tree / "etc/initramfs-tools", dirs_exist_ok=True)
    _install_packages(tree / SITE.lstrip("/"), folder, log)
    shutil.copy2(INIT, tree / INIT.name)
    (tree / MATERIAL.name).mkdir()
    for command in (["update-initramfs", "-u"], ["python3", "-m", "compileall", "-q", SITE]):
        run(in_tree(tree, command), log=log, timeout=Timeout.OUTER_GUEST.seconds)
    node_image.take_boot_files(tree, folder)
    run(as_root(disk_command(tree, folder / "disk.raw", _DISK_BYTES)), log=log, timeout=Timeout.OUTER_GUEST.seconds)
    remove_tree(tree)


@cache
def build_outer_guest() -> OuterGuest:
    """The outer guest's disk, kernel and initial RAM disk; built if they are not cached. Raises StepError."""
    inputs: dict[str, Input] = {
        "source": Path(__file__),
        "init": INIT,
        "debian": Path(debian.__file__),
        "qemu": qemu_build.HOOKS,
        "initramfs": _INITRAMFS,
        "python": [PYTHON_VERSION, requirements()],
    }
    folder = cached("outer-guest", inputs, _build, what="outer guest (Debian with Python and QEMU, once)")
    return OuterGuest(folder / "disk.raw", folder / "vmlinuz", folder / "initrd")
