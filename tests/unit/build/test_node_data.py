"""Files that are copied into the node image unchanged, and its file system."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mock_device.lab.base.commands import run
from mock_device.lab.build.node_image import DATA, disk_command

_SCRIPT = DATA / "usr/local/sbin/kubelet-state"
_CRUN = DATA / "usr/local/bin/crun"
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


def crun(folder: Path, *arguments: str, message: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the node's crun, with a program in place of Debian's that prints its arguments, ``message`` and ``code``."""
    real, wrapped = folder / "real", folder / "crun"
    real.write_text(f'#!/bin/sh\necho ran "$@"\nprintf \'%s\\n\' "{message}" >&2\nexit {code}\n')
    wrapped.write_text(_CRUN.read_text().replace("crun=/usr/bin/crun\n", f"crun={real}\n"))
    for program in (real, wrapped):
        program.chmod(0o755)
    return subprocess.run([wrapped, *arguments], capture_output=True, text=True, check=False, timeout=10)


def test_container_that_is_gone_is_killed_in_words_that_containerd_knows(tmp_path: Path) -> None:
    """containerd repeats a kill that failed for another reason for ever."""
    gone = "error opening file '/run/crun/abc/status': No such file or directory"
    found = crun(tmp_path, "--root", "/run", "kill", "abc", "9", message=gone, code=1)
    assert found.returncode == 1
    assert found.stderr == f"ran --root /run kill abc 9\n{gone}: container does not exist\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [("kill", "error opening file '/run/crun/abc/status': Permission denied"), ("delete", "No such file or directory")],
)
def test_other_failures_of_crun_stay_as_they_are(command: str, message: str, tmp_path: Path) -> None:
    found = crun(tmp_path, command, "abc", message=message, code=3)
    assert found.returncode == 3
    assert message in found.stderr
    assert "does not exist" not in found.stderr


def test_container_is_killed_by_crun(tmp_path: Path) -> None:
    assert crun(tmp_path, "kill", "abc", "9").returncode == 0


def test_containerd_runs_the_crun_of_the_node() -> None:
    config = (DATA / "etc/containerd/config.toml").read_text()
    assert f'BinaryName = "/{_CRUN.relative_to(DATA)}"' in config


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
