"""A cluster of the lab, used as if it were foreign: with a kubeconfig and SSH only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.suite_run import run_suite, statuses

from mock_device import topology
from mock_device.lab.base.paths import cache_root
from mock_device.lab.cluster import attached, deploy, detaching, node_images, node_runtime
from mock_device.lab.cluster.cluster import Cluster, NodeAccess
from mock_device.lab.cluster.module_loader import PodLoader
from mock_device.lab.cluster.ssh import on_node
from mock_device.lab.kube import kubeclient, manifests
from mock_device.topology.comparison import differences

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

TIMEOUT_SECONDS = 900
NAME = "existing-cluster-test"
NUMA_TEST = "Two Devices Share A NUMA Node"
OTHERS = """\
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: training, namespace: team}
spec: {devices: {requests: [{name: device, exactly: {deviceClassName: mock-accel-pf}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: training, namespace: team}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: localhost/mock-device/busybox:1
      command: [sleep, "1000000"]
      resources: {claims: [{name: device}]}
  resourceClaims: [{name: device, resourceClaimName: training}]
"""


class Foreign:
    """The user's files for the cluster, and commands that see nothing else of it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.profile = folder / "mine.yaml"
        self._hidden = folder / "no-clusters"
        self._hidden.mkdir()
        nodes = [cluster.node(node.name) for node in cluster.topology.nodes]
        shutil.copy(cluster.kubeconfig, folder / "kubeconfig")
        shutil.copy(nodes[0].key_file, folder / "key")
        shutil.copy(nodes[0].known_hosts, folder / "known_hosts")
        content = {
            "kind": "external",
            "kubeconfig": "kubeconfig",
            "ssh": {"key": "key", "known-hosts": "known_hosts"},
            "nodes": [{"name": node.name, "host": node.host, "port": node.port} for node in nodes],
        }
        self.profile.write_text(yaml.safe_dump(content))

    @property
    def without_clusters(self) -> list[str]:
        """Runs a command in a mount namespace that hides the folders of the lab's clusters."""
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        hide = f'mount --bind {self._hidden} {cache_root() / "clusters"} && exec "$@"'
        return ["unshare", *user, "--mount", "--propagation", "private", "sh", "-c", hide, "sh"]

    def lab(self, *arguments: str, code: int = 0) -> str:
        """Output of ``lab`` with its errors; it must end with ``code``."""
        argv = [*self.without_clusters, sys.executable, "-m", "mock_device.commands.cli", *arguments]
        environment = {**os.environ, "LAB_CLUSTER": NAME}
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output


def nodes_of(cluster: Cluster) -> list[NodeAccess]:
    return [cluster.node(node.name) for node in cluster.topology.nodes]


def state_of(cluster: Cluster) -> dict[str, object]:
    """What attaching changes: objects of the cluster, images, folders and modules of the nodes."""
    api = kubeclient.connect(cluster.kubeconfig)
    found: dict[str, object] = {}
    with manifests.dynamic_client(api) as dynamic:
        for version, kind in (
            ("v1", "Namespace"),
            ("apps/v1", "DaemonSet"),
            ("apps/v1", "Deployment"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("resource.k8s.io/v1", "DeviceClass"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
        ):
            resource = dynamic.resources.get(api_version=version, kind=kind)
            items = dynamic.get(resource).to_dict()["items"]
            found[kind] = sorted((item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in items)
    for node in nodes_of(cluster):
        runtime = node_runtime.find(node)
        # An image that was pulled by name has its digest as another reference.
        names = [name for name in node_images.references(node, runtime) if not name.startswith("sha256:")]
        found[f"images on {node.name}"] = sorted(names)
        listing = "ls -d /sys/module/mock_accel /var/lib/kubelet/plugins/mock-accel.example.com 2>/dev/null; true"
        found[f"files on {node.name}"] = on_node(node, ["sh", "-c", listing], timeout=60)
    return found


@pytest.fixture
def foreign(cluster: Cluster, tmp_path: Path) -> Iterator[Foreign]:
    """The cluster without module and driver, which are installed again afterwards.

    Their images stay on the nodes: to put them there takes minutes.
    """
    deploy.remove_driver(cluster)
    PodLoader().remove(cluster)
    api = kubeclient.connect(cluster.kubeconfig)
    namespace = (deploy.DRIVER_MANIFESTS / "00-namespace.yaml").read_text()
    manifests.delete(api, namespace, timeout=120)
    for node in nodes_of(cluster):
        on_node(node, ["rm", "-rf", "/var/lib/kubelet/plugins/mock-accel.example.com"], timeout=60)
    yield Foreign(cluster, tmp_path)
    manifests.delete(api, OTHERS, timeout=120)
    if attached.is_attached(NAME):  # the test failed
        detaching.detach(NAME)
    PodLoader().install(cluster)
    deploy.install_driver(cluster)
    deploy.wait_published(cluster)


def test_suites_run_on_a_cluster_that_exists_and_leave_nothing(foreign: Foreign, tmp_path: Path) -> None:
    before = state_of(foreign.cluster)
    planned = foreign.lab("attach", "--profile", str(foreign.profile), "--dry-run")
    assert "object\tDaemonSet mock-device/mock-accel-node-agent" in planned
    assert state_of(foreign.cluster) == before

    foreign.lab("attach", "--profile", str(foreign.profile))
    assert f"{NAME}\texternal" in foreign.lab("clusters")
    foreign.lab("status")
    discovered = tmp_path / "discovered.yaml"
    foreign.lab("topology", "discover", "--enable-vfs", "--output", str(discovered))
    assert differences(foreign.cluster.topology, topology.load(discovered)) == []

    # Another user's pod has a device meanwhile.
    api = kubeclient.connect(foreign.cluster.kubeconfig)
    manifests.apply(api, OTHERS)
    profile = ["--variable", f"PROFILE:{foreign.profile}"]
    prefix = foreign.without_clusters
    environment = run_suite("environment", "existing-cluster-environment", *profile, prefix=prefix)
    assert environment.pop("Guests Are Running").message.startswith(f"cluster '{NAME}' has no hotplug")
    assert set(statuses(environment).values()) == {"PASS"}
    scenario = run_suite("numa", "existing-cluster-numa", *profile, "--test", NUMA_TEST, prefix=prefix)
    assert statuses(scenario) == {NUMA_TEST: "PASS"}

    refused = foreign.lab("detach", code=1)
    assert "devices are in use by the claims team/training" in refused
    manifests.delete(api, OTHERS, timeout=120)
    foreign.lab("detach")
    assert state_of(foreign.cluster) == before
