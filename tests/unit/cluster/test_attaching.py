"""Attaching and detaching clusters that exist: what is made, recorded and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.foreign_cluster import ForeignCluster
from support.topologies import CLUSTER

from mock_device.driver import current, description
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import attached, attaching, client, detaching, inventory
from mock_device.lab.cluster.attached import AttachedPaths, ExternalCluster
from mock_device.lab.cluster.client import NoTopologyError
from mock_device.lab.cluster.cluster import ALWAYS, MissingCapabilityError
from mock_device.lab.kube import owned
from mock_device.lab.kube.object_id import ObjectId
from mock_device.topology.features import Feature

NODE1, NODE2 = (node.name for node in CLUSTER.nodes)
SHARED = ObjectId("v1", "Namespace", "mock-device", "")
TESTS = ObjectId("v1", "Namespace", "mock-device-tests", "")
OPERATOR = ObjectId("apps/v1", "Deployment", "operator", "kmm")
MODULE = ObjectId("kmm.sigs.x-k8s.io/v1beta1", "Module", "mock-accel", "mock-device")
AS_ROOT = [
    ObjectId("admissionregistration.k8s.io/v1", kind, "mock-accel-kmm-worker", "")
    for kind in ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
]
"""Let KMM's worker run as root."""
AGENT = ObjectId("apps/v1", "DaemonSet", "mock-accel-node-agent", "mock-device")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ForeignCluster:
    return ForeignCluster(monkeypatch, tmp_path)


def attach(foreign: ForeignCluster) -> ExternalCluster:
    return attaching.attach("mine", inventory.load(str(foreign.profile)))


def test_attached_cluster_offers_api_nodes_and_topology(foreign: ForeignCluster) -> None:
    cluster = attach(foreign)
    assert cluster.capabilities == ALWAYS
    assert [node.name for node in cluster.topology.nodes] == [NODE1, NODE2]
    assert (cluster.node(NODE2).host, cluster.default_runtime) == (NODE2, "")
    assert "namespace: mock-device-tests" in cluster.kubeconfig.read_text()
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MissingCapabilityError, match="cluster 'mine' has no console, device-server, hotplug, power"):
        _ = cluster.guests
    assert isinstance(client.attach("mine"), ExternalCluster)
    assert attached.names() == ["mine"]


def test_detaching_removes_exactly_what_attaching_made(foreign: ForeignCluster) -> None:
    theirs = ObjectId("v1", "Pod", "theirs", "default")
    foreign.objects = {theirs: "", SHARED: ""}
    foreign.folders = {"/var/run/cdi"}
    foreign.images[NODE1].add("i/a:1")
    images = {node: set(names) for node, names in foreign.images.items()}
    attach(foreign)
    assert AGENT in foreign.objects
    assert foreign.images[NODE2] == {"docker.io/library/other:1", "i/a:1", "i/b:1"}
    foreign.commands.clear()
    assert detaching.detach("mine") == []
    assert foreign.objects == {theirs: "", SHARED: ""}
    assert foreign.images == images
    plugin = "/var/lib/kubelet/plugins/mock-accel.example.com"
    assert sorted(foreign.commands) == [(node, f"[ ! -d {plugin} ] || rm -rf -- {plugin}") for node in (NODE1, NODE2)]
    assert not attached.is_attached("mine")


GPU = """\
name: gpu.example.org
namespace: gpus
device-classes: {all: gpu}
pods: {node-agent: {workload: plugin, labels: {app: gpu}, container: driver}}
"""
MANIFEST = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: plugin, namespace: gpus}
spec: {template: {spec: {containers: []}}}
"""


@pytest.fixture
def gpu(tmp_path: Path) -> Iterator[Path]:
    """A description of another driver, which is in use."""
    path = tmp_path / "gpu.yaml"
    path.write_text(f"{GPU}manifests: [plugin.yaml]\n")
    (tmp_path / "plugin.yaml").write_text(MANIFEST)
    current.use(description.read(path))
    yield path
    current.use(None)


def test_another_driver_is_installed_and_remembered(foreign: ForeignCluster, gpu: Path) -> None:
    cluster = attach(foreign)
    assert [driver.name for driver in cluster.drivers] == ["gpu.example.org"]
    assert ObjectId("apps/v1", "DaemonSet", "plugin", "gpus") in foreign.objects
    assert AGENT not in foreign.objects
    foreign.commands.clear()
    assert detaching.detach("mine") == []
    assert {command for _, command in foreign.commands if "plugins" in command} == {
        "[ ! -d /var/lib/kubelet/plugins/gpu.example.org ] || rm -rf -- /var/lib/kubelet/plugins/gpu.example.org"
    }


def test_only_our_driver_is_installed_by_the_projects_chart(foreign: ForeignCluster, gpu: Path) -> None:
    install_by(foreign, driver="helm")
    with pytest.raises(
        StepError, match=r"install\.driver helm is for this project's chart; set it to manifests or none"
    ):
        attach(foreign)


def test_driver_without_manifests_is_deployed_by_its_user(foreign: ForeignCluster, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(GPU)
    current.use(description.read(path))
    try:
        with pytest.raises(StepError, match=r"expected the key manifests, found none; set install\.driver to none"):
            attach(foreign)
    finally:
        current.use(None)


def test_pods_run_on_the_nodes_of_the_profile_only(foreign: ForeignCluster) -> None:
    (agent,) = (
        item for item in attaching.driver_objects(inventory.load(str(foreign.profile))) if owned.id_of(item) == AGENT
    )
    required = agent["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (terms,) = required["requiredDuringSchedulingIgnoredDuringExecution"].values()
    assert [term["matchFields"][0]["values"] for term in terms] == [[NODE1], [NODE2]]


def install_by(foreign: ForeignCluster, **how: str) -> None:
    foreign.profile.write_text(f"{foreign.profile.read_text()}install: {json.dumps(how)}\n")


def test_kmm_is_installed_for_the_module_and_removed_again(foreign: ForeignCluster) -> None:
    install_by(foreign, module="kmm", driver="none")
    foreign.labels = {NODE1}
    attach(foreign)
    assert set(foreign.objects) == {TESTS, SHARED, OPERATOR, *AS_ROOT, MODULE}
    assert foreign.labels == {NODE1, NODE2}
    record = AttachedPaths.of("mine").load()
    assert (record.objects, record.labelled) == ([TESTS, SHARED, *AS_ROOT, OPERATOR, MODULE], [NODE2])
    foreign.users = ["team/training"]
    with pytest.raises(StepError, match="devices are in use by the claims team/training"):
        detaching.detach("mine")
    foreign.users = []
    assert detaching.detach("mine") == []
    assert (foreign.objects, foreign.labels) == ({}, {NODE1})


def test_clusters_own_kmm_is_used_and_stays(foreign: ForeignCluster) -> None:
    install_by(foreign, module="kmm", driver="none")
    foreign.has_kmm, foreign.objects = True, {OPERATOR: ""}
    attach(foreign)
    assert set(foreign.objects) == {TESTS, SHARED, OPERATOR, *AS_ROOT, MODULE}
    assert detaching.detach("mine") == []
    assert foreign.objects == {OPERATOR: ""}


def test_driver_is_a_release_that_detaching_uninstalls(foreign: ForeignCluster) -> None:
    install_by(foreign, module="none", driver="helm")
    attach(foreign)
    record = AttachedPaths.of("mine").load()
    assert foreign.release == f"{owned.MARK}={record.mark}"
    assert (record.objects, record.release) == ([TESTS, SHARED], True)
    foreign.users = ["team/training"]
    with pytest.raises(StepError, match="devices are in use by the claims team/training"):
        detaching.detach("mine")
    foreign.users = []
    assert detaching.detach("mine") == []
    assert foreign.objects == {}
    assert foreign.release is None


def test_release_that_somebody_else_made_again_is_left(foreign: ForeignCluster) -> None:
    install_by(foreign, module="none", driver="helm")
    attach(foreign)
    foreign.release = "theirs"
    assert detaching.detach("mine") == ["Helm release mock-device: somebody else has installed it again"]
    assert foreign.release == "theirs"


def test_no_release_is_made_where_an_object_of_the_chart_exists(foreign: ForeignCluster) -> None:
    install_by(foreign, module="none", driver="helm")
    foreign.objects[AGENT] = ""
    with pytest.raises(StepError, match="DaemonSet mock-device/mock-accel-node-agent exist already; set install"):
        attach(foreign)
    assert foreign.release is None


def test_pods_of_the_release_run_on_the_nodes_of_the_profile_only(foreign: ForeignCluster) -> None:
    values = attaching.release_values(inventory.load(str(foreign.profile)))
    assert values["nodeAgent.affinity"] == values["controller.affinity"] == owned.affinity_to([NODE1, NODE2])


def test_nothing_is_made_where_an_object_exists(foreign: ForeignCluster) -> None:
    foreign.objects[AGENT] = ""
    with pytest.raises(StepError, match="DaemonSet mock-device/mock-accel-node-agent exist already; set install"):
        attach(foreign)
    assert foreign.objects == {AGENT: ""}
    assert not attached.is_attached("mine")


def test_what_a_failed_attachment_made_is_removed_by_detaching(foreign: ForeignCluster) -> None:
    foreign.fails_at = "mock-accel-controller"
    with pytest.raises(StepError, match="the API server refuses it, 403: no"):
        attach(foreign)
    assert TESTS in foreign.objects
    with pytest.raises(StepError, match="cluster 'mine' is attaching, which has not ended; .*lab detach --name mine"):
        client.attach("mine")
    with pytest.raises(StepError, match="cluster 'mine' is attaching already; remove what it made"):
        attach(foreign)
    assert detaching.detach("mine") == []
    assert foreign.objects == {}


def test_objects_that_somebody_else_made_again_are_left(foreign: ForeignCluster) -> None:
    attach(foreign)
    foreign.objects[AGENT] = ""
    foreign.others_in["mock-device-tests"] = ["Pod theirs"]
    assert detaching.detach("mine") == [
        f"{AGENT}: somebody else has made it again",
        f"{TESTS}: it has objects that this attachment has not made: Pod theirs",
    ]
    assert set(foreign.objects) == {AGENT, TESTS}


def test_driver_in_use_by_others_is_not_removed(foreign: ForeignCluster) -> None:
    attach(foreign)
    before = dict(foreign.objects)
    foreign.users = ["team/training"]
    with pytest.raises(StepError, match="devices are in use by the claims team/training; delete their pods"):
        detaching.detach("mine")
    assert foreign.objects == before
    assert isinstance(client.attach("mine"), ExternalCluster)


def test_unknown_cluster_cannot_be_detached(foreign: ForeignCluster) -> None:
    attach(foreign)
    with pytest.raises(StepError, match="cluster 'other' is not attached; attached are mine"):
        detaching.detach("other")


def test_suites_borrow_the_cluster_of_a_profile(foreign: ForeignCluster) -> None:
    with pytest.raises(StepError, match=r"mine\.yaml: its cluster is not attached; attach it: lab attach --profile"):
        client.borrow(profile=str(foreign.profile))
    attach(foreign)
    assert client.borrow(profile=str(foreign.profile)).name == "mine"
    with pytest.raises(NoTopologyError, match="no sriov in topology topology of cluster 'mine'"):
        client.borrow(features=[Feature.SRIOV], profile=str(foreign.profile))


def test_cluster_is_not_started_under_the_name_of_an_attached_one(foreign: ForeignCluster) -> None:
    attach(foreign)
    with pytest.raises(StepError, match="'mine' is a cluster that is attached; use another name, or: lab detach"):
        client.up(name="mine")


def test_declared_topology_must_have_the_nodes_of_the_profile(foreign: ForeignCluster) -> None:
    text = foreign.profile.read_text()
    foreign.profile.write_text(f"{text}topology: three-nodes\n")
    with pytest.raises(StepError, match="expected the nodes of .*mine.yaml, they differ by mock-cluster-node3"):
        attach(foreign)


def test_damaged_record_is_named(foreign: ForeignCluster) -> None:
    attach(foreign)
    AttachedPaths.of("mine").record.write_text("{}")
    with pytest.raises(StepError, match="cluster 'mine': .*attached.json is damaged: expected .folders, .images"):
        client.attach("mine")
