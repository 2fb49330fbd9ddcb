"""Building trees as an ordinary user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mock_device.lab.base import namespaces
from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.build.rootless import as_root, in_tree

TIMEOUT_SECONDS = 30


def test_root_only_needs_a_mount_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert as_root(["mke2fs", "x"]) == ["unshare", "--mount", "mke2fs", "x"]
    mounted = 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
    assert in_tree(Path("/tree"), ["make"]) == ["unshare", "--mount", "sh", "-c", mounted, Path("/tree"), "make"]


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the code path of an ordinary user, which root can use, too."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not available here: {forbidden.found}")


@pytest.mark.usefixtures("ordinary")
def test_changing_an_owner_succeeds_and_does_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    code = (
        "import os, sys; file, link = sys.argv[1:]; os.setgroups([44]); os.chown(file, 33, 44); "
        "os.lchown(link, 33, 44); "
        "descriptor = os.open(file, os.O_RDONLY); os.fchown(descriptor, 33, 44); "
        "os.chown(os.path.basename(file), 33, 44, dir_fd=os.open(os.path.dirname(file), os.O_RDONLY)); "
        "print(os.geteuid(), os.stat(file).st_uid, os.lstat(link).st_gid)"
    )
    assert run(as_root([sys.executable, "-c", code, file, link]), timeout=TIMEOUT_SECONDS).split() == [b"0", b"0", b"0"]
    assert file.owner() == Path("/proc/self").owner()


@pytest.mark.parametrize("user", [0, 1000])
def test_killed_command_leaves_no_mount(tmp_path: Path, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With remaining mounts, the next build could not remove the killed build's folder."""
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not to be had here: {forbidden.found}")
    monkeypatch.setattr("os.geteuid", lambda: user)
    started = tmp_path / "started"
    script = 'mount -t tmpfs tmpfs "$0" && touch "$1" && sleep 60'
    with pytest.raises(StepError, match="did not end within 2 s"):
        run(as_root(["sh", "-c", script, tmp_path, started]), timeout=2)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not started.exists(), "it was written to the mounted file system"


@pytest.mark.parametrize("user", [0, 1000])
def test_tree_has_proc_on_request(tmp_path: Path, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not available here: {forbidden.found}")
    for name in ("dev", "proc", "host"):
        (tmp_path / name).mkdir()
    for name in ("usr", "bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"/host/{name}")
    argv = in_tree(tmp_path, ["sh", "-c", "test -r /proc/self/limits && ls /"], proc=True)
    at = argv.index("-c") + 1
    argv[at] = f"mount --rbind / '{tmp_path}/host' && {argv[at]}"
    assert {b"proc", b"host"} <= set(run(argv, timeout=TIMEOUT_SECONDS).split())
    assert list((tmp_path / "proc").iterdir()) == []


@pytest.mark.usefixtures("ordinary")
def test_tree_has_devices_while_a_command_runs(tmp_path: Path) -> None:
    """The machine's root folder serves as the tree."""
    (tmp_path / "dev").mkdir()
    for name in ("usr", "bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"/host/{name}")
    (tmp_path / "host").mkdir()
    argv = in_tree(tmp_path, ["sh", "-c", "echo root here > /dev/null && ls /"])
    at = argv.index("-c") + 1
    argv[at] = f"mount --rbind / '{tmp_path}/host' && {argv[at]}"
    assert {b"dev", b"host"} <= set(run(argv, timeout=TIMEOUT_SECONDS).split())
    assert list((tmp_path / "dev").iterdir()) == []


@pytest.mark.usefixtures("ordinary")
def test_failure_of_the_command_is_reported() -> None:
    with pytest.raises(StepError, match="ended with 1"):
        run(as_root(["false"]), timeout=TIMEOUT_SECONDS)
