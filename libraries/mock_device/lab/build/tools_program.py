"""Builds the static program ``mock-accel`` (``kernel-driver/tools``), with the compiler of the kernel module."""

from __future__ import annotations

import shutil
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import kbuild
from mock_device.lab.build.rootless import WORK, in_tree
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
        work = root / WORK / folder.name
        try:
            for name, files in (("tools", sources), ("uapi", headers)):
                (work / name).mkdir(parents=True)
                for file in files:
                    shutil.copy2(file, work / name)
            argv = ["make", "-C", f"/{WORK}/{folder.name}/tools", PROGRAM]
            run(in_tree(root, argv), log=log_path("tools"), timeout=Timeout.IMAGE_BUILD.seconds)
            shutil.copy2(work / "tools" / PROGRAM, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    inputs: dict[str, Input] = {"sources": [*sources], "headers": [*headers], "root": str(root)}
    return cached("tools", inputs, build, what=f"program {PROGRAM}") / PROGRAM
