"""Upgrades a running cluster to the next version of Kubernetes: the control plane, then the nodes one by one.

In the order of Kubernetes' version skew policy: kubelets may be older than the API server, not newer. Containers keep
running, because containerd is not touched, and nodes are not drained.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import yaml

from mock_device.lab.base.files import write_file
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.build.node_image import kubelet_config
from mock_device.lab.cluster import profile as profiles
from mock_device.lab.cluster import ssh
from mock_device.lab.cluster.cluster import Capability, MissingCapabilityError, UpgradeTarget
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.cluster.profile import flag

_PROGRAM = "/usr/local/bin/embedded-k8s"
_ENVIRONMENT = "/etc/kubernetes/upgrade.env"
_DROP_IN = "/etc/systemd/system/kubelet.service.d/upgrade.conf"
# kubelet.env is written again at each boot, with what the cluster was started with.
_DROP_IN_CONTENT = f"[Service]\nEnvironmentFile={_ENVIRONMENT}\n"


def target(cluster: GuestCluster, version: KubernetesVersion) -> UpgradeTarget:
    """What a cluster of ``version`` by the profile of ``cluster`` runs; built if it is not cached. Raises StepError."""
    profile = profiles.load(cluster.profile, version)
    gates, served = flag(profile.feature_gates), flag(profile.runtime_config)
    return UpgradeTarget(version, build_embedded_k8s(version), gates, served)


def control_plane(cluster: GuestCluster) -> KubernetesVersion:
    """Bring the control plane of ``cluster`` to the next version, which is returned. Raises StepError."""
    wanted = cluster.kubernetes and cluster.kubernetes.next
    if wanted is None:
        raise MissingCapabilityError(cluster.name, {Capability.UPGRADE})
    cluster.upgrade_control_plane(target(cluster, wanted))
    return wanted


def node(cluster: GuestCluster, name: str) -> None:
    """Bring kubelet and kube-proxy of a node to the version of the control plane, and restart them.

    Returns when systemd has started them. Raises StepError.
    """
    assert cluster.kubernetes is not None
    found, access = target(cluster, cluster.kubernetes), cluster.node(name)
    program = found.programs / "embedded-k8s"
    files = {
        "/etc/kubernetes/kubelet.yaml": yaml.safe_dump(kubelet_config(found.version)),
        _ENVIRONMENT: f"FEATURE_GATES={found.feature_gates}\n",
        _DROP_IN: _DROP_IN_CONTENT,
    }
    ssh.on_node(access, receive(_PROGRAM, 0o755), timeout=Timeout.IMAGE_LOAD.seconds, stdin=program)
    with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
        for path, content in files.items():
            write_file(Path(folder) / "file", content)
            ssh.on_node(access, receive(path, 0o644), timeout=Timeout.NODE_COMMAND.seconds, stdin=Path(folder) / "file")
    restart = "systemctl daemon-reload && systemctl restart kubelet kube-proxy"
    ssh.on_node(access, ["sh", "-c", restart], timeout=Timeout.NODE_COMMAND.seconds)


def receive(path: str, mode: int) -> list[str]:
    """Command that replaces the file ``path`` by its input, synced and renamed: a program that runs keeps its file."""
    new, folder = shlex.quote(f"{path}.new"), shlex.quote(str(Path(path).parent))
    steps = [f"mkdir -p {folder}", f"cat > {new}", f"chmod {mode:o} {new}", f"sync {new}"]
    return ["sh", "-c", " && ".join([*steps, f"mv {new} {shlex.quote(path)}"])]
