"""A cluster of the lab, used as if it were foreign: with a kubeconfig and SSH only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.suite_run import run_suite, statuses

from mock_device import topology
from mock_device.acceptance import foreign
from mock_device.acceptance.foreign import Foreign
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.module_loader import PodLoader
from mock_device.lab.kube import kubeclient, manifests
from mock_device.topology.comparison import differences

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

TIMEOUT_SECONDS = 900
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


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[Foreign]:
    """The cluster without module and driver, which are installed again afterwards.

    Their images stay on the nodes: to put them there takes minutes.
    """
    foreign.strip(cluster, with_images=False)
    user = Foreign(cluster, tmp_path)
    yield user
    manifests.delete(kubeclient.connect(cluster.kubeconfig), OTHERS, timeout=120)
    if f"{foreign.NAME}\texternal" in lab(user, "clusters"):  # the test failed
        lab(user, "detach")
    PodLoader().install(cluster)
    deploy.install_driver(cluster, current.driver())
    deploy.wait_published(cluster, current.driver())


def lab(user: Foreign, *arguments: str | Path) -> str:
    """What ``lab`` prints for the user of the cluster."""
    return user.lab(*arguments, timeout=TIMEOUT_SECONDS)


def test_suites_run_on_a_cluster_that_exists_and_leave_nothing(user: Foreign, tmp_path: Path) -> None:
    before = foreign.state_of(user.cluster)
    planned = lab(user, "attach", "--profile", user.profile, "--dry-run")
    assert "object\tDaemonSet mock-device/mock-accel-node-agent" in planned
    assert foreign.changes(before, foreign.state_of(user.cluster)) == []

    lab(user, "attach", "--profile", user.profile)
    assert f"{foreign.NAME}\texternal" in lab(user, "clusters")
    lab(user, "status")
    discovered = tmp_path / "discovered.yaml"
    lab(user, "topology", "discover", "--enable-vfs", "--output", discovered)
    assert differences(user.cluster.topology, topology.load(discovered)) == []

    # Another user's pod has a device meanwhile.
    api = kubeclient.connect(user.cluster.kubeconfig)
    manifests.apply(api, OTHERS)
    profile = ["--variable", f"PROFILE:{user.profile}"]
    environment = run_suite("environment", "existing-cluster-environment", *profile, prefix=user.prefix)
    assert environment.pop("Guests Are Running").message.startswith(f"cluster '{foreign.NAME}' has no hotplug")
    assert set(statuses(environment).values()) == {"PASS"}
    scenario = run_suite("numa", "existing-cluster-numa", *profile, "--test", NUMA_TEST, prefix=user.prefix)
    assert statuses(scenario) == {NUMA_TEST: "PASS"}

    with pytest.raises(StepError, match="devices are in use by the claims team/training"):
        lab(user, "detach")
    manifests.delete(api, OTHERS, timeout=120)
    lab(user, "detach")
    assert foreign.changes(before, foreign.state_of(user.cluster)) == []
