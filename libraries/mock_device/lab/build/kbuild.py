"""Builds the kernel module for the nodes, and checks it with their kernel, the oldest supported one and the newest.

Headers and compilers come from Debian: one tree for the nodes' kernel, one for the two other kernels.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click

from mock_device.lab.base import command_line
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.rootless import make_in_tree
from mock_device.lab.build.store import Input, NotCachedError, cached, only_looking

_SOURCE = PROJECT / "kernel-driver"
_TEST_MODULES = _SOURCE / "tests/modules"
_UAPI = _SOURCE / "uapi"
_TEST_PROGRAM = "job"
_CHECKPATCH = "/opt/checkpatch"
"""Folder of checkpatch.pl, which Debian ships only with the kernel's source."""
OLDEST = (6, 1)
"""The oldest kernel that the module supports: the kernel of ``_OLDEST_SUITE``."""
_OLDEST_SUITE = "bookworm"
_NEWEST_SUITE = f"{debian.SUITE}-backports"
_TOOLS = ("make", "gcc", "perl")
_HEADERS = "linux-headers-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """Headers and compiler of a kernel, in ``/lib/modules/<release>/build`` of the tree ``root``."""

    root: Path
    release: str


def _sources(folder: Path) -> dict[str, Path]:
    """Files of a build, by their names in it; those of the tests include the header for user space."""
    headers = {f"uapi/{path.name}" if folder != _TEST_MODULES else path.name: path for path in _UAPI.glob("*.h")}
    return {path.name: path for path in sorted([*folder.glob("*.[ch]"), folder / "Makefile"])} | headers


def module_kernel_release() -> str:
    """Release of the nodes' kernel, for which the module is built."""
    return build_node_image().kernel_release


@cache
def build_root() -> Path:
    """Tree with compiler and headers of the nodes' exact kernel release, and the C library for programs in images."""
    release = module_kernel_release()
    source = "linux-source-" + ".".join(release.split(".")[:2])
    packages = (*_TOOLS, "libc6-dev", "sparse", "xz-utils", source, f"linux-headers-{release}")
    scripts = " ".join(
        f"{source}/scripts/{name}" for name in ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")
    )
    hooks = (
        f'mkdir -p "$1{_CHECKPATCH}"',
        f'tar -xJf "$1/usr/src/{source}.tar.xz" -C "$1{_CHECKPATCH}" --strip-components=2 {scripts}',
        f'rm "$1/usr/src/{source}.tar.xz"',
    )

    def build(folder: Path) -> None:
        debian.tree(folder / "root", packages, log=log_path("kbuild"), hooks=hooks)

    inputs: dict[str, Input] = {"packages": packages, "hooks": hooks, "debian": Path(debian.__file__)}
    return cached("kbuild", inputs, build, what=f"compiler and headers of Linux {release}") / "root"


def nodes_kernel() -> Kernel:
    """The kernel of the nodes. Raises StepError."""
    return Kernel(build_root(), module_kernel_release())


def _headers_of(suite: str) -> tuple[str, ...]:
    """Hooks that also install the kernel headers of another Debian suite."""
    line = f"s/ {debian.SUITE} / {suite} /p"
    return (
        f'sed -n "{line}" "$1/etc/apt/sources.list" > "$1/etc/apt/sources.list.d/{suite}.list"',
        'chroot "$1" apt-get update',
        f'chroot "$1" apt-get install -y --no-install-recommends -t {suite} {_HEADERS}',
        f'rm "$1/etc/apt/sources.list.d/{suite}.list"',
    )


@cache
def other_kernels() -> tuple[Kernel, Kernel]:
    """The oldest supported kernel, and the newest that Debian offers for its stable release. Raises StepError."""
    packages = _TOOLS
    hooks = (*_headers_of(_OLDEST_SUITE), *_headers_of(_NEWEST_SUITE))

    def build(folder: Path) -> None:
        debian.tree(folder / "root", packages, log=log_path("kbuild-others"), hooks=hooks)

    inputs: dict[str, Input] = {"packages": packages, "hooks": hooks, "debian": Path(debian.__file__)}
    what = f"compilers and headers of the kernels of {_OLDEST_SUITE} and {_NEWEST_SUITE}"
    root = cached("kbuild-others", inputs, build, what=what) / "root"
    releases = sorted((folder.name for folder in (root / "usr/lib/modules").iterdir()), key=version)
    if not releases or version(releases[0])[: len(OLDEST)] != OLDEST:
        raise StepError(
            f"{root}: expected headers of Linux {'.'.join(map(str, OLDEST))} of {_OLDEST_SUITE}, "
            f"found those of {', '.join(releases) or 'no kernel'}"
        )
    return Kernel(root, releases[0]), Kernel(root, releases[-1])


@cache
def kernel_of(release: str) -> Kernel:
    """Headers and compiler of the kernel ``release`` of Debian: that of the nodes, or any other.

    Raises StepError if Debian's stable releases and their backports have no such kernel.
    """
    with suppress(NotCachedError), only_looking():
        if module_kernel_release() == release:
            return nodes_kernel()
    with suppress(NotCachedError), only_looking():
        for kernel in other_kernels():
            if kernel.release == release:
                return kernel
    package = f"linux-headers-{release}"
    lists = [hook for suite in (_OLDEST_SUITE, _NEWEST_SUITE) for hook in _headers_of(suite)[:1]]
    install = f'chroot "$1" apt-get install -y --no-install-recommends {package}'
    hooks = (*lists, 'chroot "$1" apt-get update', install, 'rm "$1"/etc/apt/sources.list.d/*.list')

    def build(folder: Path) -> None:
        try:
            debian.tree(folder / "root", _TOOLS, log=log_path("kbuild-release"), hooks=hooks)
        except StepError as error:
            raise StepError(
                f"no headers of Linux {release}: expected the package {package} in Debian's {debian.SUITE}, "
                f"{_OLDEST_SUITE} or {_NEWEST_SUITE}; build the module on a node instead (kernel-driver/README.md) "
                f"and load it there\n  {error}"
            ) from error

    inputs: dict[str, Input] = {"packages": _TOOLS, "hooks": hooks, "debian": Path(debian.__file__)}
    return Kernel(
        cached("kbuild-release", inputs, build, what=f"compiler and headers of Linux {release}") / "root", release
    )


def version(release: str) -> tuple[int, ...]:
    """Leading numbers of a kernel release: (6, 1, 0, 41) for ``6.1.0-41-cloud-amd64``."""
    found = re.match(r"\d+(?:[.-]\d+)*", release)
    return tuple(map(int, re.split("[.-]", found[0]))) if found else ()


def _build(kind: str, sources: Path, kernel: Kernel, target: str, what: str) -> Path:
    """Folder with the modules that ``make target`` builds; built if it is not cached. Raises StepError."""
    inputs: dict[str, Input] = {
        "sources": [*_sources(sources).values()],
        "root": str(kernel.root),
        "release": kernel.release,
        "target": target,
    }

    def build(folder: Path) -> None:
        arguments = [f"KDIR=/lib/modules/{kernel.release}/build", f"CHECKPATCH={_CHECKPATCH}/checkpatch.pl", target]
        # objtool of Linux 7.3 reads its resource limits from /proc.
        make_in_tree(
            kernel.root,
            _sources(sources),
            folder,
            arguments,
            ("*.ko", _TEST_PROGRAM),
            log=log_path(kind),
            timeout=Timeout.MODULE_BUILD.seconds,
            proc=True,
        )

    return cached(kind, inputs, build, what=f"{what}, Linux {kernel.release}")


def build_module() -> Path:
    """``mock_accel.ko`` for the nodes' kernel; built if it is not cached. Raises StepError."""
    return build_module_with(nodes_kernel())


def build_module_from(sources: Path) -> Path:
    """``mock_accel.ko`` for the nodes' kernel, of other ``sources``; built if it is not cached. Raises StepError."""
    return _build("module", sources, nodes_kernel(), "all", "changed kernel module") / "mock_accel.ko"


def build_module_for(release: str) -> Path:
    """``mock_accel.ko`` for the kernel ``release``; built if it is not cached. Raises StepError."""
    return build_module_with(kernel_of(release))


def build_module_with(kernel: Kernel) -> Path:
    """``mock_accel.ko`` for ``kernel``; built if it is not cached. Raises StepError."""
    return _build("module", _SOURCE, kernel, "all", "kernel module") / "mock_accel.ko"


def is_built_for(release: str) -> bool:
    """Whether the module for the kernel ``release`` is cached."""
    try:
        with only_looking():
            build_module_for(release)
    except NotCachedError:
        return False
    return True


def build_test_modules(kernel: Kernel | None = None) -> list[Path]:
    """Modules and a program for tests, by default for the nodes' kernel; built if not cached. Raises StepError."""
    what = "modules of the kernel module's tests"
    folder = _build("module-tests", _TEST_MODULES, kernel or nodes_kernel(), "all", what)
    return [*sorted(folder.glob("*.ko")), folder / _TEST_PROGRAM]


def _check(target: str, what: str, kernel: Callable[[], Kernel], sources: Path = _SOURCE) -> Callable[[], None]:
    def check() -> None:
        _build(f"module-{target}", sources, kernel(), target, f"kernel module: {what}")

    return check


CHECKS: Mapping[str, Callable[[], None]] = {
    "checkpatch": _check("style", "checkpatch --strict", nodes_kernel),
    "checkpatch of its tests": _check("style", "checkpatch --strict of its tests", nodes_kernel, _TEST_MODULES),
    "sparse": _check("sparse", "sparse", nodes_kernel),
    "the nodes' kernel": _check("check", "W=1", nodes_kernel),
    "the oldest kernel": _check("check", "W=1", lambda: other_kernels()[0]),
    "the newest kernel": _check("check", "W=1", lambda: other_kernels()[1]),
}
"""Checks that the module must pass; each raises StepError with the output of the compiler, checkpatch or sparse."""


@click.command("kbuild", context_settings=command_line.SETTINGS)
@click.argument("what", type=click.Choice(["build", "check"]))
def kbuild(what: str) -> None:
    """Build the kernel module and print its path, or check it."""
    if what == "build":
        print(build_module())
        return
    for check in CHECKS.values():
        check()


def main(argv: Sequence[str] | None = None) -> int:
    """Build or check the module; exit code 1 for a step that failed, 2 for bad usage."""
    return command_line.run(kbuild, argv)


if __name__ == "__main__":
    sys.exit(main())
