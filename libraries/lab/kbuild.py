"""Builds and checks the kernel module against the nodes' kernel, in a Debian tree with its headers and compiler."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lab import debian
from lab.artifacts import PROJECT, Input, StepError, cached, log_path, run
from lab.node_image import build_node_image
from lab.tree_root import in_tree

_ROOM = PROJECT / "kernel-driver"
_SOURCES = ("mock_accel.c", "Makefile")
_TIMEOUT_SECONDS = 300.0
_WORK = "work"
_CHECKPATCH = "/opt/checkpatch"
"""Folder of checkpatch.pl, which Debian ships with the kernel's source only."""


def module_kernel_release() -> str:
    """Kernel of the nodes, for which the module is built."""
    return build_node_image().kernel_release


@cache
def build_root() -> Path:
    """Tree with compiler and headers of exactly the nodes' kernel."""
    release = module_kernel_release()
    source = "linux-source-" + ".".join(release.split(".")[:2])
    packages = ("make", "gcc", "perl", "xz-utils", source, f"linux-headers-{release}")
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


def _make(folder: Path, target: str, log: Path) -> None:
    """Run ``make target`` on a copy of the sources, inside the tree."""
    root, release = build_root(), module_kernel_release()
    work = root / _WORK / folder.name
    work.mkdir(parents=True)
    try:
        for name in _SOURCES:
            shutil.copy2(_ROOM / name, work)
        kernel = f"/lib/modules/{release}/build"
        argv = ["make", "-C", f"/{_WORK}/{folder.name}", f"KDIR={kernel}", target]
        argv.append(f"CHECKPATCH={_CHECKPATCH}/checkpatch.pl")
        run(in_tree(root, argv), log=log, timeout=_TIMEOUT_SECONDS)
        for built in work.glob("*.ko"):
            shutil.copy2(built, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _inputs() -> dict[str, str | list[str | Path]]:
    return {"sources": [_ROOM / name for name in _SOURCES], "root": str(build_root())}


def build_module() -> Path:
    """``mock_accel.ko`` for the nodes' kernel; built when it is not cached. Raises StepError."""

    def build(folder: Path) -> None:
        _make(folder, "all", log_path("module"))

    return cached("module", _inputs(), build, what="kernel module") / "mock_accel.ko"


def check_module() -> None:
    """Raise StepError unless ``make W=1`` and ``checkpatch.pl --strict`` have nothing to say."""

    def build(folder: Path) -> None:
        _make(folder, "check", log_path("module-check"))

    cached("module-check", _inputs(), build, what="kernel module: W=1 and checkpatch --strict")


def main(argv: Sequence[str] | None = None) -> int:
    """Build the module and print where it is, or check it."""
    parser = argparse.ArgumentParser(prog="lab.kbuild", description=main.__doc__)
    parser.add_argument("what", choices=["build", "check"])
    try:
        if parser.parse_args(argv).what == "build":
            print(build_module())
        else:
            check_module()
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
