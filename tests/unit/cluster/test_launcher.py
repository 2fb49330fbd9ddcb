"""Files of clusters: which are kept after the end, and which a start writes."""

from __future__ import annotations

import fcntl
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_device import topology
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.spec import ClusterPaths, ClusterSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import launcher
from mock_device.lab.cluster.control import NoClusterError
from mock_device.lab.cluster.launcher import prune_runs, wait_ended


def ended_run(folder: Path, number: int) -> Path:
    root = folder / f"run-{number}"
    (root / "data").mkdir(parents=True)
    (root / "logs").mkdir()
    (root / "spec.json").touch()
    lock = folder / f"run-{number}.lock"
    lock.touch()
    os.utime(lock, (number, number))
    return root


def test_logs_of_the_last_runs_are_kept(tmp_path: Path) -> None:
    runs = [ended_run(tmp_path, number) for number in range(1, 8)]
    named = ended_run(tmp_path, 0).rename(tmp_path / "default")
    prune_runs(tmp_path)
    assert [path.name for path in runs if path.exists()] == ["run-3", "run-4", "run-5", "run-6", "run-7"]
    assert [path.name for path in (tmp_path / "run-7").iterdir()] == ["logs"]
    assert (named / "data").exists()


def test_files_of_a_running_cluster_are_kept(tmp_path: Path) -> None:
    root = ended_run(tmp_path, 1)
    with (tmp_path / "run-1.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prune_runs(tmp_path)
    assert (root / "data").exists()


def test_wait_ended_waits_for_the_supervisors_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Timeout.STOP, "nominal", timedelta(seconds=0.2))
    paths = ClusterPaths.of("some")
    paths.lock.parent.mkdir()
    with paths.lock.open("a+") as supervisor:
        fcntl.flock(supervisor, fcntl.LOCK_EX)
        with pytest.raises(StepError, match="cluster 'some' has not ended after 0 s"):
            wait_ended("some")
    wait_ended("some")


def test_cluster_keeps_the_topology_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_supervisor(_: str) -> Any:
        raise NoClusterError("not started here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    qemu = SimpleNamespace(system_argv=["qemu"], img_argv=["qemu-img"], env={})
    image = SimpleNamespace(disk="/disk", disk_format="raw", kernel="/kernel", initrd="/initrd")
    monkeypatch.setattr(launcher, "ensure_qemu", lambda: qemu)
    monkeypatch.setattr(launcher, "build_embedded_k8s", lambda: Path("/binaries"))
    monkeypatch.setattr(launcher, "build_registry", lambda: Path("/lab-registry"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: None)
    monkeypatch.setattr(launcher, "Control", no_supervisor)
    file = tmp_path / "mine.yaml"
    text = (PROJECT / "variables/topologies/single-node.yaml").read_text()
    file.write_text(text)
    loaded = topology.load(file)
    file.write_text("edited while golden clusters are built")
    profile: Any = SimpleNamespace(
        accelerator="tcg",
        feature_gates={},
        runtime_config={"resource.k8s.io/v1alpha3": True},
        default_runtime="crun",
        kubelet_drop_in=lambda: "",
        k3s=None,
        internet=False,
        nested=False,
        timeout_factor=2.5,
        node_image=lambda: image,
    )
    with pytest.raises(NoClusterError):
        launcher.launch("some", loaded, profile, "test")
    assert ClusterPaths.of("some").topology.read_text() == text
    spec = ClusterSpec.load(ClusterPaths.of("some").spec)
    assert (spec.timeout_factor, spec.runtime_config) == (2.5, "resource.k8s.io/v1alpha3=true")
