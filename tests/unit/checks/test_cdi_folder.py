"""The CDI folder of a node that the driver cannot write, or containerd cannot read, on a real file system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.runtimes import RUNTIME

from mock_device.checks.nodes import cdi, cdi_folder
from mock_device.lab.cluster.node_runtime import NodeRuntime

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root may")


class Shell:
    """A session whose node is this machine: the folder is moved, and containerd is not restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runtime(self, _: str) -> NodeRuntime:
        return RUNTIME

    def on_node(self, _: str, command: str, timeout: float | None = None) -> str:
        moved = command.replace(cdi.FOLDER, str(self.folder)).replace(RUNTIME.restart, "echo restarted")
        return subprocess.run(["sh", "-c", moved], check=True, capture_output=True, text=True, timeout=timeout).stdout


@pytest.fixture
def node(tmp_path: Path) -> Any:
    (tmp_path / "device.json").write_text("{}")
    shell: Any = Shell(tmp_path)
    yield shell
    cdi_folder.uncover(shell, "node1")


def test_covered_folder_shows_no_file_until_it_is_uncovered(node: Any) -> None:
    cdi_folder.cover(node, "node1")
    assert list(node.folder.iterdir()) == []
    with pytest.raises(OSError, match="Read-only"):
        (node.folder / "other.json").write_text("{}")
    cdi_folder.cover(node, "node1")
    cdi_folder.uncover(node, "node1")
    assert [path.name for path in node.folder.iterdir()] == ["device.json"]


def test_folder_that_is_not_covered_stays_as_it_is(node: Any) -> None:
    cdi_folder.uncover(node, "node1")
    assert [path.name for path in node.folder.iterdir()] == ["device.json"]
