"""Health of a cluster: what ``lab status`` shows and judges, beside what ``lab diagnose`` says of the same cluster."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing
from kubernetes.client import ApiClient
from support import container_cases, kmm_cases
from support.diagnosis_cases import CASES, HEALTHY
from support.recorded_cluster import NODE1, NODE2, READY, pod_of, published, shown
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.sysfs import MODULE_ABSENT, Accelerator
from mock_device.diagnosis import diagnosis, health
from mock_device.diagnosis.health import ClusterStatus, NodeStatus, PodStatus
from mock_device.driver import description
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.tables import text
from mock_device.lab.cluster.cluster import Capability, GuestAnswer

NODE = NodeStatus("node1", "running", 1 << 30, "True", "v1.36.3", True, {"mock0": "1", "mock1": "0"}, 2)
POD = PodStatus("agent-1", "node1", "Running", True)
STATUS = ClusterStatus(
    "default", "small", "v1.37.2", "running", ["robot"], [NODE], [POD], 2, [], driver="one", drivers=["one", "two"]
)
OF_HEALTH = {step.name for step in health.STEPS}
FIRST, SECOND = HEALTHY.devices
VF = next(function for function in CLUSTER.nodes[1].functions if function.is_vf)

ALL_CASES = CASES | container_cases.CASES | kmm_cases.CASES


def as_text(status: ClusterStatus) -> str:
    return text(*health.tables(status))


@pytest.mark.parametrize(("changes", "step", "evidence", "_"), ALL_CASES.values(), ids=ALL_CASES.keys())
def test_health_and_diagnosis_say_the_same(changes: dict[str, Any], step: str, evidence: str, _: str) -> None:
    """A cluster is unhealthy by the complaint of the broken step, if that is one of the health; else it is not."""
    found = health.complaints(replace(HEALTHY, **changes))
    if step in OF_HEALTH:
        assert evidence.partition(" (and ")[0] in found[0]
    else:
        assert found == []


def test_health_is_all_of_the_diagnosis_that_is_marked_so() -> None:
    assert list(health.STEPS) == [step for step in diagnosis.STEPS if step.of_health]


def test_steps_of_the_health_ask_for_nothing_but_one_look() -> None:
    class OneLook:
        """Has no more than ``LiveSnapshot.look_at_health`` reads."""

        has_guests = True
        topology, state, guests, servers = HEALTHY.topology, HEALTHY.state, HEALTHY.guests, HEALTHY.servers
        silent, devices, nodes = HEALTHY.silent, HEALTHY.devices, HEALTHY.nodes
        driver_pods, slices = HEALTHY.driver_pods, HEALTHY.slices

    snapshot: Any = OneLook()
    assert health.complaints(snapshot) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"state": "failed"}, "expected the cluster running, found it failed"),
        ({"driver_pods": []}, "no pods in namespace mock-device"),
        (
            {"driver_pods": [pod_of("agent", NODE1, conditions=[])]},
            f"pod agent-{NODE1} on {NODE1} is not ready (Running)",
        ),
        ({"slices": published()[:-1]}, f"{NODE2} mock5 ({CLUSTER.nodes[1].pfs[-1].bdf}): expected one ResourceSlice"),
        ({"guests": {NODE1: "paused", NODE2: "running"}}, f"{NODE1}: expected guest running, found paused"),
        (
            {"nodes": {**HEALTHY.nodes, NODE2: {"status": {"conditions": [{**READY[0], "status": "Unknown"}]}}}},
            f"{NODE2} has Ready=Unknown",
        ),
        ({"devices": [FIRST, replace(SECOND, module=MODULE_ABSENT)]}, f"{NODE2}: expected kernel module mock_accel"),
        (
            {"devices": [FIRST, replace(SECOND, accelerators=SECOND.accelerators[1:])]},
            f"{NODE2} mock0 (0000:11:00.0): /sys/class/mock-accel has no such device",
        ),
        (
            {
                "devices": [
                    FIRST,
                    replace(
                        SECOND,
                        accelerators=(
                            *SECOND.accelerators[1:],
                            Accelerator(VF.name, VF.uuid, VF.memory, VF.numa_node, VF.capability_bits, 0, VF.bdf),
                        ),
                    ),
                ]
            },
            f"{NODE2} mock0 (0000:11:00.0): /sys/class/mock-accel has no such device",
        ),
        ({"silent": {NODE2: f"{NODE2}: no answer over SSH"}, "devices": [FIRST]}, f"{NODE2}: no answer over SSH"),
    ],
)
def test_whatever_is_missing_makes_it_unhealthy(changes: dict[str, Any], complaint: str) -> None:
    """Neither ``lab status`` nor ``lab diagnose`` takes such a cluster for a healthy one."""
    cluster = replace(HEALTHY, **changes)
    assert health.complaints(cluster)[0].startswith(complaint)
    assert not diagnosis.walk(cluster).healthy


def test_node_that_does_not_answer_has_one_complaint() -> None:
    silent = replace(HEALTHY, silent={NODE2: f"{NODE2}: no answer over SSH"}, devices=[FIRST])
    assert health.complaints(silent) == [f"{NODE2}: no answer over SSH"]


def test_files_of_the_module_loader_are_shown_with_checksums() -> None:
    lines = as_text(replace(STATUS, module_loader="kmm", loader_files={"kmm.yaml": "ca97"})).splitlines()
    assert "module loader kmm" in lines[0].split("\t")
    assert lines[-2:] == ["file of the module loader\tsha256", "kmm.yaml\tca97"]


def test_pods_that_kmm_starts_for_a_moment_are_not_judged() -> None:
    worker = pod_of("kmm-worker", NODE1, phase="Pending", conditions=[])
    worker["metadata"]["labels"] = {"kmm.node.kubernetes.io/worker-action": "Load"}
    assert health.complaints(replace(HEALTHY, driver_pods=[*HEALTHY.driver_pods, worker])) == []


def test_healthy_cluster() -> None:
    assert health.complaints(HEALTHY) == []
    assert STATUS.healthy and not replace(STATUS, complaints=["no pods"]).healthy
    lines = as_text(STATUS).splitlines()
    assert (
        lines[0]
        == "cluster\tdefault\tsmall\tKubernetes v1.37.2\trunning\tslices 2\tmodule loader pod\tdriver one, beside two"
    )
    assert lines[2] == "node1\trunning\t1024 MiB\tTrue\tv1.36.3\tloaded\t2 of 2\tmock0"
    assert lines[4] == "agent-1\tnode1\tRunning\tyes"


def test_node_that_does_not_answer_is_shown_with_the_reason() -> None:
    node = replace(NODE, module=False, devices={}, error="no answer over SSH")
    line = as_text(replace(STATUS, nodes=[node])).splitlines()[2]
    assert line == "node1\trunning\t1024 MiB\tTrue\tv1.36.3\tabsent\t0 of 2\t-\tno answer over SSH"


def test_enabled_vfs_are_counted_beside_the_devices_of_the_topology() -> None:
    devices = {"mock0": "0", "mock0_vf0": "1", "mock0_vf1": "0", "mock1": "0"}
    status = replace(STATUS, nodes=[replace(NODE, devices=devices, vfs=("mock0_vf0", "mock0_vf1"))])
    assert as_text(status).splitlines()[2].endswith("\tloaded\t2 of 2 and 2 VFs\tmock0_vf0")


class Supervisor:
    """The guest of the second node is stopped: its SSH server is not there for a long time, its QEMU for ever."""

    name = "some"
    capabilities = frozenset(Capability)
    drivers = (description.load(description.DEFAULT),)

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.guests = self

    def look(self, command: str, seconds: float) -> dict[str, GuestAnswer]:
        assert command == "query-status"
        self.asked.append(seconds)
        return {NODE1: GuestAnswer({"status": "running"}), NODE2: GuestAnswer(error="QMP: no answer", silent=True)}

    def status(self) -> Object:
        processes: list[Object] = [
            {"name": f"devices-{node}", "exit_code": None, "memory": 1} for node in (NODE1, NODE2)
        ]
        processes.append({"name": f"qemu-{NODE1}", "exit_code": None, "memory": 7})
        return {"state": "running", "reason": "", "holders": ["robot"], "processes": processes}


def session_of(api: ApiClient, allocated: tuple[str, ...] = ()) -> Any:
    """The first node answers, the second one does not."""
    first = shown(CLUSTER.nodes[0], allocated)
    lines = ["module\tlive", *(f"pci\t{f.bdf}\t{f.device_id:#06x}\t{f.numa_node}\t{f.driver}" for f in first.pci)]
    for item in first.accelerators:
        values = (item.name, item.uuid, item.memory, item.numa_node, hex(item.capabilities), item.status, item.bdf)
        lines.append("\t".join(["accel", *map(str, values), item.health]))
    reason = f"{NODE2}: no answer over SSH within 10 s"
    outputs = {NODE1: "\n".join([*lines, "end", ""])}
    return SimpleNamespace(
        api=api,
        topology=CLUSTER,
        cluster=Supervisor(),
        command_seconds=10.0,
        answers_of_nodes=lambda _: (outputs, {NODE2: reason}),
    )


INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)
"""Fields of a node's ``nodeInfo``, all of which the client needs."""


def node_of(name: str, ready: str) -> Object:
    fields = ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID")
    info = dict.fromkeys((*fields, "operatingSystem", "osImage", "systemUUID"), "") | {"kubeletVersion": "v1.36.3"}
    return {"metadata": {"name": name}, "status": {"conditions": [{**READY[0], "status": ready}], "nodeInfo": info}}


VERSION = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), "-")
ANSWERS: Answers = {
    "/version/": (200, {**VERSION, "gitVersion": "v1.37.2", "major": "1", "minor": "37"}),
    "/api/v1/nodes": listing(node_of(NODE1, "True"), node_of(NODE2, "Unknown")),
    "/api/v1/namespaces/mock-device/pods": listing(pod_of("agent", NODE1)),
    "/apis/resource.k8s.io/v1/resourceslices": listing(*published()),
    "/apis/resource.k8s.io/v1/resourceclaims": listing(),
}


def test_stopped_guest_is_named_and_the_others_are_shown() -> None:
    with api_server(ANSWERS) as api:
        session = session_of(api)
        status = health.collect(session)
    first, second = status.nodes
    assert session.cluster.asked == [10]
    assert (status.kubernetes, first.kubelet) == ("v1.37.2", "v1.36.3")
    assert (first.guest, first.module, len(first.pfs), first.memory) == ("running", True, 6, 7)
    assert (second.guest, second.ready, second.memory) == ("silent", "Unknown", 0)
    assert second.error == "no answer over SSH within 10 s"
    assert (status.slices, status.pods) == (len(published()), [PodStatus(f"agent-{NODE1}", NODE1, "Running", True)])
    assert [complaint.partition(":")[0].partition(" has")[0] for complaint in status.complaints] == [NODE2] * 3


def test_slices_of_other_drivers_and_those_with_counters_are_not_counted() -> None:
    counters, foreign = ({**item, "spec": dict(item["spec"])} for item in published()[:2])
    counters["spec"]["devices"] = []
    foreign["spec"]["driver"] = "gpu.example.com"
    with api_server(ANSWERS | {"/apis/resource.k8s.io/v1/resourceslices": listing(counters, foreign)}) as api:
        assert health.collect(session_of(api)).slices == 0


def test_suite_must_leave_all_devices_free() -> None:
    with api_server(ANSWERS) as api:
        session = session_of(api, ("mock3",))
        healthy = health.complaints_of(session)
        (taken,) = set(health.complaints_of(session, all_free=True)) - set(healthy)
    assert taken.startswith(f"{NODE1} mock3 (0000:21:00.0): expected status register 0 (free), found 1")


@pytest.mark.parametrize("error", [StepError("cluster 'some': it ended"), CheckError("no answer")])
def test_cluster_that_does_not_answer_is_unhealthy(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(_: Supervisor) -> Object:
        raise error

    monkeypatch.setattr(Supervisor, "status", status)
    with api_server(ANSWERS) as api:
        assert health.complaints_of(session_of(api), all_free=True) == [str(error)]


def test_api_server_that_does_not_answer_is_a_complaint() -> None:
    with api_server({}) as api:
        (complaint,) = health.complaints_of(session_of(api))
    assert "404" in complaint
