"""Fills a small disk in one of several ways and checks errors and remaining files; exit code 0 if all is right.

Started by ``test_full_disk.py`` as the first process of new namespaces, with the
disk mounted: when it ends, the kernel kills all processes and unmounts the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_device.lab.base import commands, disk, files, paths
from mock_device.lab.base.errors import DiskFullError, StepError
from mock_device.lab.build import store
from mock_device.lab.cluster import golden
from mock_device.lab.guest.monitor import Monitor, MonitorError
from support.topologies import SINGLE_NODE

END_SECONDS = 10.0


def fill(folder: Path) -> None:
    (folder / "part").write_text("x")
    with (folder / "big").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def fill_by_a_program(folder: Path) -> None:
    commands.run(["dd", "if=/dev/zero", f"of={folder / 'big'}", "bs=1M"], timeout=30)


def fill_and_time_out(folder: Path) -> None:
    with pytest.raises(OSError):
        fill(folder)
    raise StepError("node1 is not Ready after 400 s")


def small(folder: Path) -> None:
    (folder / "whole").write_text("whole")


def built(_: Path) -> None:
    for build in (fill, fill_by_a_program, fill_and_time_out):
        with pytest.raises(DiskFullError, match="a thing: the disk is full.*; free some space, see: lab cache"):
            store.cached("thing", {}, build, what="a thing")
        left = [path.name for path in (paths.cache_root() / "thing").iterdir() if path.is_dir()]
        assert left == [], left
    folder = store.cached("thing", {}, small, what="a thing")
    assert [path.name for path in folder.iterdir()] == ["whole"]


def other_errors(root: Path) -> None:
    """Errors are unchanged while the disk has space."""

    def fail(_: Path) -> None:
        raise StepError("compiler says no")

    assert not disk.shortage(root)
    with pytest.raises(StepError, match="^compiler says no$") as caught:
        store.cached("thing", {}, fail, what="a thing")
    assert type(caught.value) is StepError


def written(root: Path) -> None:
    path = root / "file"
    files.write_file(path, "old")
    with pytest.raises(OSError) as caught:
        files.write_file(path, bytes(64 << 20))
    assert disk.is_disk_full(caught.value)
    assert path.read_text() == "old"
    assert list(root.iterdir()) == [path]
    files.write_file(path, "new")


def no_inode(root: Path) -> None:
    assert not disk.shortage(root)
    with pytest.raises(OSError):
        for number in range(1000):
            (root / str(number)).touch()
    assert "no inode is free" in disk.shortage(root)


def golden_needs_more(root: Path) -> None:
    (root / "partial").mkdir()
    found = f"it needs 1... MiB in {root}, found .. MiB free"
    with pytest.raises(StepError, match=found):
        golden._check_space(root / "partial", SINGLE_NODE)


def saved(root: Path) -> None:
    """Save a guest without an operating system; its sockets must not be on the disk that fills up."""
    qemu = json.loads(os.environ["QEMU"])
    memory = ["-object", "memory-backend-memfd,id=ram,share=on,size=64M", "-machine", "q35,memory-backend=ram"]
    argv = [*qemu["argv"], "-nodefaults", "-display", "none", "-accel", "tcg", *memory, "-m", "64M"]
    process = subprocess.Popen([*argv, "-qmp", "unix:qmp.sock,server=on,wait=off"], env=os.environ | qemu["env"])

    async def save() -> None:
        monitor = Monitor(SINGLE_NODE.nodes[0])
        await monitor.connect(Path("qmp.sock"))
        try:
            with pytest.raises(MonitorError, match=r"node1: save: .*; the disk is full: 0 MiB are free on"):
                await monitor.save(root / "guest.ram")
        finally:
            await monitor.quit()

    asyncio.run(save())
    process.wait(END_SECONDS)


CHECKS: dict[str, Callable[[Path], None]] = {
    check.__name__: check for check in (built, other_errors, written, no_inode, golden_needs_more, saved)
}

if __name__ == "__main__":
    CHECKS[sys.argv[1]](Path(sys.argv[2]))
