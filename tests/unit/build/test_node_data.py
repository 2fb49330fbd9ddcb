"""Files that are copied into the node image unchanged, and its file system."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.build.node_image import DATA, disk_command

_SCRIPT = DATA / "usr/local/sbin/kubelet-state"
_GOOD = '{"data":"{\\"uid\\":{}}","checksum":1}'


def test_damaged_kubelet_state_is_removed(tmp_path: Path) -> None:
    broken = {
        "allocated_pods_state": b"",
        "actuated_pods_state": b"\0" * 4096,
        "cpu_manager_state": _GOOD[:18].encode(),
        "memory_manager_state": b"\n",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dra_manager_state").write_text(_GOOD)
    (tmp_path / "other").touch()
    (tmp_path / "folder_state").mkdir()
    run = subprocess.run([_SCRIPT, tmp_path], capture_output=True, text=True, check=True, timeout=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dra_manager_state", "folder_state", "other"]
    assert (tmp_path / "dra_manager_state").read_text() == _GOOD
    assert f"removed {tmp_path}/allocated_pods_state: expected JSON, found 0 bytes" in run.stdout
    assert run.stderr == ""


def test_node_without_state_is_not_an_error(tmp_path: Path) -> None:
    assert subprocess.run([_SCRIPT, tmp_path], capture_output=True, check=True, timeout=10).stdout == b""


def test_kubelet_starts_after_the_check_of_its_state() -> None:
    unit = (DATA / "etc/systemd/system/kubelet.service").read_text()
    assert f"ExecStartPre=/{_SCRIPT.relative_to(DATA)}\n" in unit


def test_disk_has_a_journal_and_the_files_of_the_tree(tmp_path: Path) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk.raw"
    tree.mkdir()
    (tree / "file").write_text("content")
    run(disk_command(tree, disk, 64 << 20), timeout=60)
    assert b" has_journal " in run(["dumpe2fs", "-h", disk], timeout=60)
    assert run(["debugfs", "-R", "cat /file", disk], timeout=60) == b"content"
