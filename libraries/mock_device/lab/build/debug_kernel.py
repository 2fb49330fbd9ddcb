"""The debug kernel: that of the nodes, compiled to find bugs of the module (KASAN, lockdep, fault injection).

Debian has no such kernel. This one has what the module's tests need of a guest, and no more: that compiles in minutes.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian, images, kbuild
from mock_device.lab.build.kbuild import Kernel
from mock_device.lab.build.rootless import in_tree
from mock_device.lab.build.store import Input, cached

OPTIONS = Path(__file__).parent / "data" / "debug-kernel.config"
"""What differs from a configuration in which everything is off, in the format of ``.config``."""
_TOOLS = ("make", "gcc", "perl", "flex", "bison", "bc", "libelf-dev", "xz-utils")
_SOURCE = "usr/src/linux"
_UNNEEDED = (
    "Documentation/*.rst",
    "arch/arm*/*.[chS]",
    "arch/*/*.dts*",
    "drivers/gpu/*.[ch]",
    "drivers/media/*.[ch]",
    "drivers/net/ethernet/*.[ch]",
    "drivers/net/wireless/*.[ch]",
    "sound/*.[ch]",
)
"""Parts of the source that take space and time to unpack, and are not compiled."""
_NEEDED_BY_MODULES = (".config", "Makefile", "Kbuild", "Module.symvers", "include", "arch", "scripts", "tools")
"""What modules are compiled with (Documentation/kbuild/modules.rst); the rest of the source is removed."""


@dataclass(frozen=True)
class DebugKernel:
    """What a guest boots, and what modules for it are compiled with."""

    image: Path
    kernel: Kernel


def options(text: str) -> dict[str, str]:
    """Options that are set in the text of a ``.config``: values by name."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))


def lost_options(wanted: str, found: str) -> list[str]:
    """Lines of ``wanted`` that ``found``, the text of a ``.config``, does not have.

    The kernel's configuration leaves out silently what does not exist or needs another option.
    """
    has = options(found)
    return [f"{name}={value}" for name, value in options(wanted).items() if has.get(name) != value]


def _make(root: Path, log: Path, *arguments: str) -> str:
    argv = ["make", "-C", f"/{_SOURCE}", "ARCH=x86", *arguments]
    return run(in_tree(root, argv, proc=True), log=log, timeout=Timeout.KERNEL_BUILD.seconds).decode()


def _configure(root: Path, log: Path) -> None:
    source = root / _SOURCE
    shutil.copy2(OPTIONS, source / OPTIONS.name)
    _make(root, log, f"KCONFIG_ALLCONFIG={OPTIONS.name}", "allnoconfig")
    lost = lost_options(OPTIONS.read_text(), (source / ".config").read_text())
    if lost:
        raise StepError(
            f"expected the debug kernel with all options of {OPTIONS}, it has not {', '.join(lost)}; "
            "look up in the Kconfig files of its source what they need",
            log,
        )


def _reduce(source: Path) -> None:
    """Remove what modules are not compiled with."""
    for path in source.iterdir():
        if path.name not in _NEEDED_BY_MODULES:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in source.rglob("*.[oa]"):
        path.unlink()


@cache
def build_debug_kernel() -> DebugKernel:
    """The debug kernel; compiled if it is not cached. Raises StepError."""
    package = "linux-source-" + ".".join(map(str, kbuild.version(kbuild.module_kernel_release())[:2]))
    packages = (*_TOOLS, package)
    excluded = " ".join(f"--exclude='*/{pattern}'" for pattern in _UNNEEDED)
    hooks = (
        f'mkdir "$1/{_SOURCE}"',
        f'tar -xJf "$1/usr/src/{package}.tar.xz" -C "$1/{_SOURCE}" --strip-components=1 --wildcards {excluded}',
        f'rm "$1/usr/src/{package}.tar.xz"',
    )

    def build(folder: Path) -> None:
        log, root = log_path("debug-kernel"), folder / "root"
        debian.tree(root, packages, log=log, hooks=hooks)
        _configure(root, log)
        _make(root, log, f"-j{os.cpu_count() or 1}")
        release = _make(root, log, "-s", "--no-print-directory", "kernelrelease").strip()
        shutil.copy2(root / _SOURCE / "arch/x86/boot/bzImage", folder / "vmlinuz")
        write_file(folder / "kernel-release", release)
        modules = root / f"usr/lib/modules/{release}"
        modules.mkdir(parents=True)
        (modules / "build").symlink_to(f"/{_SOURCE}")
        _reduce(root / _SOURCE)

    inputs: dict[str, Input] = {
        "options": OPTIONS,
        "needed by modules": _NEEDED_BY_MODULES,
        "packages": packages,
        "hooks": hooks,
        "debian": Path(debian.__file__),
    }
    folder = cached("debug-kernel", inputs, build, what="debug kernel (KASAN, lockdep, fault injection)")
    return DebugKernel(folder / "vmlinuz", Kernel(folder / "root", (folder / "kernel-release").read_text()))


def module_image() -> Path:
    """Archive of the module's image for the debug kernel. Raises StepError."""
    kernel = build_debug_kernel().kernel
    return images.kmod_image(kbuild.build_module_with(kernel), kernel.release)


def test_modules() -> list[Path]:
    """Modules and a program for the module's tests in the debug kernel. Raises StepError."""
    return kbuild.build_test_modules(build_debug_kernel().kernel)
