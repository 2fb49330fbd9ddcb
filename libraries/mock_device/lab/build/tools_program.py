"""Builds the static program ``mock-accel`` (``kernel-driver/tools``), with the compiler of the kernel module."""

from __future__ import annotations

from pathlib import Path

from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import kbuild
from mock_device.lab.build.rootless import make_in_tree
from mock_device.lab.build.store import Input, cached

SOURCES = PROJECT / "kernel-driver/tools"
HEADERS = PROJECT / "kernel-driver/uapi"
PROGRAM = "mock-accel"


def program() -> Path:
    """The program; built if it is not cached. Raises StepError."""
    root = kbuild.build_root()
    sources = sorted([*SOURCES.glob("*.[ch]"), SOURCES / "Makefile"])
    headers = sorted(HEADERS.glob("*.h"))

    def build(folder: Path) -> None:
        files = {f"{file.parent.name}/{file.name}": file for file in [*sources, *headers]}
        make_in_tree(
            root,
            files,
            folder,
            [PROGRAM],
            [PROGRAM],
            log=log_path("tools"),
            timeout=Timeout.IMAGE_BUILD.seconds,
            where="tools",
        )

    inputs: dict[str, Input] = {"sources": [*sources], "headers": [*headers], "root": str(root)}
    return cached("tools", inputs, build, what=f"program {PROGRAM}") / PROGRAM
