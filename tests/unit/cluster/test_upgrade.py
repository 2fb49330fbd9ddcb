"""Upgrade of a running cluster to the next version of Kubernetes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.variables import profile_path
from mock_device.lab.cluster import profile, ssh, upgrade
from mock_device.lab.cluster.cluster import MissingCapabilityError, UpgradeTarget

V1_34, V1_35, V1_36, V1_37 = KubernetesVersion


class Cluster:
    """A cluster of the default profile that is upgraded at once."""

    name = "some"
    profile = str(profile_path("embedded"))

    def __init__(self, kubernetes: KubernetesVersion | None) -> None:
        self.kubernetes = kubernetes
        self.targets: list[UpgradeTarget] = []

    def upgrade_control_plane(self, target: UpgradeTarget) -> None:
        self.targets.append(target)
        self.kubernetes = target.version

    def node(self, name: str) -> Any:
        return SimpleNamespace(name=name)


def cluster_of(version: KubernetesVersion | None) -> Any:
    return Cluster(version)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with the program of each version, whose content is its name."""
    for version in KubernetesVersion:
        (tmp_path / version).mkdir()
        (tmp_path / version / "embedded-k8s").write_text(version)
    monkeypatch.setattr(upgrade, "build_embedded_k8s", lambda version: tmp_path / version)
    return tmp_path


@pytest.mark.parametrize("version", [V1_34, V1_35, V1_36])
def test_control_plane_gets_programs_and_settings_of_the_next_version(
    version: KubernetesVersion, programs: Path
) -> None:
    cluster = cluster_of(version)
    wanted = upgrade.control_plane(cluster)
    assert wanted is version.next
    expected = profile.load("embedded", wanted)
    gates, served = profile.flag(expected.feature_gates), profile.flag(expected.runtime_config)
    assert cluster.targets == [UpgradeTarget(wanted, programs / wanted, gates, served)]
    assert gates != profile.flag(profile.load("embedded", version).feature_gates) or version is V1_35


@pytest.mark.parametrize("version", [V1_37, None])
def test_cluster_of_the_last_version_is_not_upgraded(version: KubernetesVersion | None) -> None:
    cluster = cluster_of(version)
    with pytest.raises(MissingCapabilityError, match="'some' has no upgrade"):
        upgrade.control_plane(cluster)
    assert cluster.targets == []


def test_node_gets_program_and_settings_before_its_services_restart(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []

    def on_node(node: Any, command: Sequence[str], *, timeout: float, stdin: Path | None = None) -> str:
        assert node.name == "node2"
        assert timeout > 0
        done.append((command[-1], stdin.read_text() if stdin else ""))
        return ""

    monkeypatch.setattr(ssh, "on_node", on_node)
    cluster = cluster_of(V1_34)
    upgrade.control_plane(cluster)
    upgrade.node(cluster, "node2")
    program, configuration, environment, drop_in, restart = done
    assert program[0].endswith("mv /usr/local/bin/embedded-k8s.new /usr/local/bin/embedded-k8s")
    assert program[1] == "v1.35"
    # A key that the kubelet of 1.34 refuses.
    assert "imagePullCredentialsVerificationPolicy: NeverVerify\n" in configuration[1]
    assert environment[1] == "FEATURE_GATES=DRAPartitionableDevices=true,ResourceHealthStatus=true\n"
    assert drop_in[1] == "[Service]\nEnvironmentFile=/etc/kubernetes/upgrade.env\n"
    assert "kubelet.service.d" in drop_in[0]
    assert restart == ("systemctl daemon-reload && systemctl restart kubelet kube-proxy", "")


def test_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a program"
    path.parent.mkdir()
    path.write_text("old")
    kept = path.open()
    subprocess.run(upgrade.receive(str(path), 0o755), input=b"new", check=True, timeout=10)
    assert (path.read_text(), kept.read()) == ("new", "old")
    assert path.stat().st_mode & 0o777 == 0o755
    assert [item.name for item in path.parent.iterdir()] == ["a program"]
    kept.close()


def test_file_that_does_not_arrive_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.mkdir()
    (path / "new").touch()
    done = subprocess.run(upgrade.receive(f"{path}/new/program", 0o644), input=b"x", check=False, timeout=10)
    assert done.returncode != 0
