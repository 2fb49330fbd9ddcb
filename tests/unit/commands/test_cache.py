"""Cached artifacts: the list, and what prune removes."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_supervisor import SPEC

from mock_device.commands import cache, cli
from mock_device.lab.base.spec import ClusterPaths, ImageSpec, QemuSpec, control_address
from mock_device.lab.build import store
from mock_device.lab.build.store import NotCachedError, cached, only_looking


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "_requested", set())
    return tmp_path / "mock-device"


def artifact(name: str) -> Path:
    def build(folder: Path) -> None:
        (folder / "file").write_text("x" * 10_000)

    return cached("thing", {"name": name}, build, what=name)


def test_only_looking_records_artifacts_and_builds_none(root: Path) -> None:
    there = artifact("there")
    with only_looking() as wanted:
        assert artifact("there") == there
        with pytest.raises(NotCachedError, match="missing: not in the cache"):
            artifact("missing")
    assert there in wanted
    assert len(wanted) == 2
    assert [path.name for path in (root / "thing").iterdir() if path.is_dir()] == [there.name]


def test_prune_removes_stale_artifacts_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, busy, old = artifact("wanted"), artifact("busy"), artifact("old")
    failed = old.with_name(f"{old.name}.failed-1")
    failed.mkdir()
    (root / "clusters" / "default").mkdir(parents=True)
    monkeypatch.setattr(cache, "_current", lambda: {wanted})
    with busy.with_name(f"{busy.name}.lock").open("a+") as builder:
        fcntl.flock(builder, fcntl.LOCK_EX)
        assert {entry.path for entry in cache.prune(dry_run=True)} == {old, failed}
        assert old.exists()
        needed = {entry.path: entry.needed_by for entry in cache.entries()}
        assert needed == {wanted: ["inputs"], busy: ["a build"], old: [], failed: []}
        removed = cache.prune()
    assert {entry.path for entry in removed} == {old, failed}
    assert {path for path in (root / "thing").iterdir() if path.is_dir()} == {wanted, busy}
    assert (root / "clusters" / "default").exists()
    (entry,) = [entry for entry in cache.entries() if entry.path == wanted]
    assert entry.kind == "thing"
    assert entry.size >= 10_000


def qcow2(path: Path, base: Path) -> None:
    """Write the part of a qcow2 disk that names its backing file."""
    name = str(base).encode()
    path.write_bytes(struct.pack(">4sIQI", b"QFI\xfb", 3, 104, len(name)).ljust(104, b"\0") + name)


def running_cluster(root: Path, name: str) -> tuple[ExitStack, set[Path]]:
    """A supervisor's socket and a spec with old artifacts; returns these artifacts with their bases."""
    image, nodes, driver, binaries, qemu = (artifact(part) for part in ("image", "nodes", "driver", "binaries", "qemu"))
    (image / "disk.raw").touch()
    qcow2(nodes / "node1.qcow2", image / "disk.raw")
    qcow2(driver / "node1.qcow2", nodes / "node1.qcow2")
    paths = ClusterPaths.of(name)
    paths.root.mkdir(parents=True)
    boot = ImageSpec("/elsewhere/disk.raw", "raw", "/elsewhere/vmlinuz", "/elsewhere/initrd")
    emulator = QemuSpec([f"{qemu}/root/ld.so", "-L", "/usr/share"], {}, "tcg")
    spec = replace(
        SPEC,
        name=name,
        directory=str(paths.root),
        qemu=emulator,
        image=boot,
        binaries=str(binaries),
        golden=str(driver),
    )
    spec.save(paths.spec)
    stack = ExitStack()
    supervisor = stack.enter_context(socket.socket(socket.AF_UNIX))
    supervisor.bind(control_address(name))
    supervisor.listen()
    return stack, {image, nodes, driver, binaries, qemu}


def test_prune_keeps_artifacts_of_running_clusters(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_current", set)
    old = artifact("old")
    stack, used = running_cluster(root, "default")
    with stack:
        assert cache.used_by("default") == used
        assert {entry.path for entry in cache.entries() if entry.needed_by == ["cluster default"]} == used
        assert [entry.path for entry in cache.prune()] == [old]
        assert all((path / "file").exists() for path in used)
    assert {entry.path for entry in cache.prune()} == used


def test_prune_keeps_everything_if_the_spec_of_a_running_cluster_is_damaged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_current", set)
    stack, used = running_cluster(root, "default")
    with stack:
        ClusterPaths.of("default").spec.write_text("")
        assert not cache.prune()
        assert all((path / "file").exists() for path in used)


def test_interrupted_prune_leaves_no_partial_artifact(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_current", set)
    old = artifact("old")

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as slow:
        slow.setattr(cache, "remove_tree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.prune()
    assert not old.exists()
    (entry,) = cache.prune()
    assert entry.path.name.startswith(f"{old.name}.tmp")
    assert not [path for path in old.parent.iterdir() if path.is_dir()]


def test_backing_file_of_a_disk(tmp_path: Path) -> None:
    qcow2(tmp_path / "absolute", Path("/base.raw"))
    qcow2(tmp_path / "relative", Path("base.raw"))
    (tmp_path / "alone").write_bytes(struct.pack(">4sIQI", b"QFI\xfb", 3, 0, 0))
    (tmp_path / "raw").write_bytes(b"x")
    found = [cache.backing_file(tmp_path / name) for name in ("absolute", "relative", "alone", "raw")]
    assert found == [Path("/base.raw"), tmp_path / "base.raw", None, None]


def test_inputs_of_the_project_are_resolved_with_an_empty_cache(root: Path) -> None:
    (root / "old" / "0123").mkdir(parents=True)
    (entry,) = cache.entries()
    assert (entry.kind, entry.needed_by) == ("old", [])


def test_command(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, old = artifact("wanted"), artifact("old")
    monkeypatch.setattr(cache, "_current", lambda: {wanted})

    def output(*arguments: str) -> str:
        assert cli.main(["cache", *arguments]) == 0
        return capsys.readouterr().out

    capsys.readouterr()
    heading, *lines, total = (line.split("\t") for line in output().splitlines())
    assert heading == ["kind", "size", "last used", "needed by", "path"]
    assert {line[4]: line[3] for line in lines} == {str(wanted): "inputs", str(old): "nothing"}
    assert total[0] == "total"
    for arguments in (["--json", "prune", "--dry-run"], ["prune", "--dry-run", "--json"]):
        (entry,) = json.loads(output(*arguments))
        assert (entry["kind"], entry["path"], entry["needed_by"]) == ("thing", str(old), [])
    assert output("prune", "--dry-run").splitlines()[-1].startswith("would be removed\t")
    assert old.exists()
    assert output("prune").splitlines()[-1].endswith(" in 1 folders")
    assert not old.exists()
    assert output("prune") == "removed\t0 MiB in 0 folders\n"
    assert cli.main(["cache", "--prune"]) == 2


def test_disk_usage_does_not_count_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert cache.disk_usage(tmp_path) < 1 << 20


def test_what_tests_of_kubernetes_need_is_current(root: Path) -> None:
    kinds = {path.parent.name for path in cache._current()}
    assert {"kubernetes-e2e", "outer-guest", "kubernetes"} <= kinds
