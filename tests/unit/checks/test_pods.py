"""Building pods, their state, and their containers' view of devices."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.sysfs import SysfsTree
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.checks.objects import pod_claims, pods
from mock_device.checks.objects.pods import ContainerView, SeenDevice

NODE = CLUSTER.node("mock-cluster-node1")
MOCK0, MOCK0_VF0 = NODE.functions[:2]
FUNCTIONS = [MOCK0, MOCK0_VF0]
SHORT = {"MOCK_ACCEL_DEVICE": "mock0_vf0", "MOCK_ACCEL_UUID": "NODE1-NUMA0-VF0", "MOCK_ACCEL_PCI": "0000:11:00.1"}
ENVIRONMENT = SHORT | {
    "MOCK_ACCEL_DEVICE_MOCK0": "mock0",
    "MOCK_ACCEL_UUID_MOCK0": "NODE1-NUMA0-PF",
    "MOCK_ACCEL_PCI_MOCK0": "0000:11:00.0",
    "MOCK_ACCEL_DEVICE_MOCK0_VF0": "mock0_vf0",
    "MOCK_ACCEL_UUID_MOCK0_VF0": "NODE1-NUMA0-VF0",
    "MOCK_ACCEL_PCI_MOCK0_VF0": "0000:11:00.1",
}
SEEN_PF = SeenDevice("mock0", "NODE1-NUMA0-PF", "0", "/sys/devices/pci0000:10/0000:10:00.0/0000:11:00.0")
SEEN_VF = SeenDevice(
    "mock0_vf0",
    "NODE1-NUMA0-VF0",
    "0",
    "/sys/devices/pci0000:10/0000:10:00.0/0000:11:00.1",
    parent=SEEN_PF.target,
)
VIEW = ContainerView(ENVIRONMENT, (SEEN_PF, SEEN_VF))


def test_single_container_gets_all_claims() -> None:
    pod = pods.build("two", ["near", "far"], None, {"a": "b"})
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"] == {"name": "two", "labels": {"a": "b"}}
    assert container["resources"]["claims"] == [{"name": "near"}, {"name": "far"}]
    assert pods.claim_names(pod) == ["near", "far"]
    assert "nodeSelector" not in pod["spec"]


def test_each_container_has_its_claims() -> None:
    pod = pods.build("two", ["near"], None, {}, template="far", containers={"a": ["near"], "b": ["far"]})
    assert pods.container_names(pod) == ["a", "b"]
    assert [container["resources"]["claims"] for container in pod["spec"]["containers"]] == [
        [{"name": "near"}],
        [{"name": "far"}],
    ]
    assert pod["spec"]["resourceClaims"][1] == {"name": "far", "resourceClaimTemplateName": "far"}
    assert pod_claims.uses(pod, "b") == set()
    pod["status"] = {"resourceClaimStatuses": [{"name": "far", "resourceClaimName": "two-far-x7k2p"}]}
    assert (pod_claims.uses(pod, "a"), pod_claims.uses(pod, "b")) == ({("near", None)}, {("two-far-x7k2p", None)})


def test_container_can_use_one_request_of_a_claim() -> None:
    pod = pods.build("one", ["pair"], None, {})
    pod["spec"]["containers"][0]["resources"]["claims"] = [{"name": "pair", "request": "near"}]
    assert pod_claims.uses(pod, "main") == {("pair", "near")}
    with pytest.raises(KeyError, match="no container 'side' in the pod; it has main"):
        pod_claims.uses(pod, "side")


def test_pod_can_request_an_extended_resource() -> None:
    pod = pods.build("extended", [], None, {}, resources={"example.com/accel": 2})
    (container,) = pod["spec"]["containers"]
    assert container["resources"] == {"claims": [], "limits": {"example.com/accel": "2"}}
    assert pod["spec"]["resourceClaims"] == [] and pods.claim_names(pod) == []


def test_pod_for_a_node_does_not_bypass_the_scheduler() -> None:
    spec = pods.build("one", [], "mock-cluster-node2", {})["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "mock-cluster-node2"}
    assert "nodeName" not in spec


@pytest.mark.parametrize(
    ("statuses", "names"),
    [
        (None, ["own"]),
        ([{"name": "made"}], ["own"]),
        ([{"name": "made", "resourceClaimName": "pod-made-x7k2p"}], ["own", "pod-made-x7k2p"]),
    ],
)
def test_names_of_claims_from_templates_come_from_the_status(
    statuses: list[dict[str, str]] | None, names: list[str]
) -> None:
    entries = [{"name": "o", "resourceClaimName": "own"}, {"name": "made", "resourceClaimTemplateName": "t"}]
    assert pods.claim_names({"spec": {"resourceClaims": entries}, "status": {"resourceClaimStatuses": statuses}}) == (
        names
    )


UNSCHEDULABLE = "0/2 nodes are available: 2 cannot allocate all claims."


def condition(kind: str, status: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


@pytest.mark.parametrize(
    ("status", "runs", "ended", "reason"),
    [
        (None, False, False, None),
        ({"phase": "Pending", "conditions": None}, False, False, None),
        (
            {
                "phase": "Pending",
                "conditions": [
                    condition("Ready", "False"),
                    condition("PodScheduled", "False", reason="Unschedulable", message=UNSCHEDULABLE),
                ],
            },
            False,
            False,
            UNSCHEDULABLE,
        ),
        (
            {"phase": "Pending", "conditions": [condition("PodScheduled", "False", reason="SchedulerError")]},
            False,
            False,
            "SchedulerError",
        ),
        ({"phase": "Pending", "conditions": [condition("PodScheduled", "True")]}, False, False, None),
        ({"phase": "Running", "conditions": [condition("Ready", "False")]}, False, False, None),
        (
            {"phase": "Running", "conditions": [condition("Ready", "True"), condition("PodScheduled", "True")]},
            True,
            False,
            None,
        ),
        ({"phase": "Succeeded", "conditions": [condition("Ready", "False")]}, False, True, None),
        ({"phase": "Failed"}, False, True, None),
    ],
)
def test_state_of_a_pod(status: dict[str, Any] | None, runs: bool, ended: bool, reason: str | None) -> None:
    pod = {"status": status}
    assert (pods.runs(pod), pods.has_ended(pod), pods.unschedulable_reason(pod)) == (runs, ended, reason)


def test_probe_lists_the_devices_of_the_container(tmp_path: Path) -> None:
    tree = SysfsTree(tmp_path.resolve())
    for function in FUNCTIONS:
        folder = tree.add(
            function.name,
            function.bdf,
            uuid=function.uuid,
            numa_node=function.numa_node,
            physfn=MOCK0.bdf if function.is_vf else None,
        )
        (folder / "device" / "vendor").write_text("0x1de5\n")
    (tree.classes / "mock9").symlink_to("../../devices/gone")
    (tree.classes / "mock0" / "left").symlink_to("../gone")
    script = pods.probe().replace(CLASS_FOLDER, str(tree.classes))
    environment = {"PATH": os.environ["PATH"], "HOME": "/", **ENVIRONMENT}
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=environment).stdout
    view = pods.parse_view(output.replace(str(tree.root), "/sys"))
    assert view == ContainerView(ENVIRONMENT, (SEEN_PF, SEEN_VF, SeenDevice("mock9", "", "", "")), ("mock0/left",))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "the container's list of devices is incomplete: ''"),
        ("env\tMOCK_ACCEL_PCI=1", "the container's list of devices is incomplete: 'env\\tMOCK_ACCEL_PCI=1'"),
        ("env\tMOCK_ACCEL_PCI\nend\n", "expected a variable or device of the container, found 'env\\tMOCK_ACCEL_PCI'"),
        ("broken\nend\n", "expected a variable or device of the container, found 'broken'"),
        ("device\tmock0\nend\n", "expected a variable or device of the container, found 'device\\tmock0'"),
    ],
)
def test_invalid_output_is_rejected(output: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        pods.parse_view(output)
    assert str(caught.value) == message


@pytest.mark.parametrize("function", FUNCTIONS)
def test_short_variables_may_be_those_of_any_device(function: topology.Function) -> None:
    short = dict(zip(SHORT, (function.name, function.uuid, function.bdf), strict=True))
    assert pods.view_complaints(replace(VIEW, environment=ENVIRONMENT | short), NODE, FUNCTIONS) == []


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([], "/sys/class/mock-accel in the container: expected mock0, mock0_vf0, found nothing"),
        ([SEEN_PF], "/sys/class/mock-accel in the container: expected mock0, mock0_vf0, found mock0"),
        (
            [SEEN_PF, SEEN_VF, replace(SEEN_PF, name="mock1")],
            "/sys/class/mock-accel in the container: expected mock0, mock0_vf0, found mock0, mock0_vf0, mock1",
        ),
        (
            [replace(SEEN_PF, numa_node="1"), SEEN_VF],
            "mock0 (0000:11:00.0) in the container: expected NUMA node 0, found 1",
        ),
        (
            [SEEN_PF, replace(SEEN_VF, numa_node="")],
            "mock0_vf0 (0000:11:00.1) in the container: expected NUMA node 0, found none",
        ),
        (
            [replace(SEEN_PF, uuid="NODE2-NUMA0-PF"), SEEN_VF],
            "mock0 (0000:11:00.0) in the container: expected UUID NODE1-NUMA0-PF, found NODE2-NUMA0-PF",
        ),
        (
            [SEEN_PF, replace(SEEN_VF, target=SEEN_PF.target)],
            f"mock0_vf0 (0000:11:00.1) in the container: expected a device link to 0000:11:00.1, "
            f"found {SEEN_PF.target}",
        ),
        (
            [replace(SEEN_PF, target=""), SEEN_VF],
            "mock0 (0000:11:00.0) in the container: expected a device link to 0000:11:00.0, found a broken link",
        ),
        (
            [SEEN_PF, replace(SEEN_VF, parent="")],
            "mock0_vf0 (0000:11:00.1) in the container: expected a device/physfn link to 0000:11:00.0, found none",
        ),
        (
            [replace(SEEN_PF, parent=SEEN_VF.target), SEEN_VF],
            f"mock0 (0000:11:00.0) in the container: expected no device/physfn, found {SEEN_VF.target}",
        ),
    ],
)
def test_other_devices_in_sysfs_are_reported(devices: list[SeenDevice], message: str) -> None:
    assert pods.view_complaints(replace(VIEW, devices=tuple(devices)), NODE, FUNCTIONS) == [message]


def test_broken_links_are_reported() -> None:
    assert pods.view_complaints(replace(VIEW, broken=("mock0/status",)), NODE, FUNCTIONS) == [
        "/sys/class/mock-accel/mock0/status in the container: expected a link that resolves"
    ]


SHORTS = "MOCK_ACCEL_DEVICE, MOCK_ACCEL_UUID, MOCK_ACCEL_PCI"
BOTH = "mock0 NODE1-NUMA0-PF 0000:11:00.0 or mock0_vf0 NODE1-NUMA0-VF0 0000:11:00.1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MOCK_ACCEL_PCI_MOCK0": None}, "expected MOCK_ACCEL_PCI_MOCK0=0000:11:00.0, found none"),
        ({"MOCK_ACCEL_PCI_MOCK0": "0000:12:00.0"}, "expected MOCK_ACCEL_PCI_MOCK0=0000:11:00.0, found 0000:12:00.0"),
        ({"MOCK_ACCEL_UUID_MOCK1": "X"}, "MOCK_ACCEL_UUID_MOCK1=X belongs to none of its devices"),
        (
            {"MOCK_ACCEL_PCI": "0000:11:00.0"},
            f"expected {SHORTS} to be {BOTH}, found mock0_vf0 NODE1-NUMA0-VF0 0000:11:00.0",
        ),
        ({"MOCK_ACCEL_UUID": None}, f"expected {SHORTS} to be {BOTH}, found mock0_vf0 (unset) 0000:11:00.1"),
    ],
)
def test_other_devices_in_the_environment_are_reported(change: dict[str, str | None], message: str) -> None:
    environment = {name: value for name, value in (ENVIRONMENT | change).items() if value}
    assert pods.view_complaints(replace(VIEW, environment=environment), NODE, FUNCTIONS) == [
        f"environment of the container: {message}"
    ]


def test_pod_can_run_as_root_by_another_runtime() -> None:
    spec = pods.build("p", ["c"], None, {}, as_root=True, runtime_class="runc")["spec"]
    assert (spec["runtimeClassName"], spec["securityContext"]) == ("runc", {"runAsUser": 0})
    assert "securityContext" not in spec["containers"][0]
    spec = pods.build("p", ["c"], None, {})["spec"]
    assert "runtimeClassName" not in spec
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_pod_can_restart() -> None:
    assert pods.build("p", ["c"], None, {}, restart=True)["spec"]["restartPolicy"] == "Always"
    assert pods.build("p", ["c"], None, {})["spec"]["restartPolicy"] == "Never"


def test_pod_can_have_its_own_user_namespace() -> None:
    assert pods.build("p", ["c"], None, {}, host_users=False)["spec"]["hostUsers"] is False
    assert "hostUsers" not in pods.build("p", ["c"], None, {})["spec"]
