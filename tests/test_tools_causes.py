"""Why a claim cannot be met, for every form of a claim, and beside another driver: what is known, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from diagnosis_cases import HEALTHY, NONE_FITS
from recorded_cluster import CLUSTER, NODE1, NODE2, claim, device_classes, pod, published, waiting
from tools import diagnosis
from tools.steps import Finding

Object = dict[str, Any]
OURS, FOREIGN = "mock-accel.example.com", "gpu.example.com"
ATTRIBUTES = f'device.attributes["{OURS}"]'
CAN_BE_MET = next(step for step in diagnosis.STEPS if step.name == "claims can be met")
PFS = [function.name for function in CLUSTER.nodes[0].pfs]
GPU_CLASS: Object = {
    "metadata": {"name": "gpu"},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{FOREIGN}"'}}]},
}
FOREIGN_SLICES: list[Object] = [
    {
        "metadata": {"name": f"{node}-{FOREIGN}-x7k2p"},
        "spec": {
            "driver": FOREIGN,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {"name": f"gpu-{number}", "attributes": {"model": {"string": "LATEST-GPU-MODEL"}}}
                for number in range(8)
            ],
        },
    }
    for node in (NODE1, NODE2)
]


def request(name: str = "device", device_class: str = "mock-accel-pf", **fields: Any) -> Object:
    mode = {} if "allocationMode" in fields else {"allocationMode": "ExactCount", "count": 1}
    return {"name": name, "exactly": {"deviceClassName": device_class, **mode, **fields}}


def cel(*expressions: str) -> list[Object]:
    return [{"cel": {"expression": expression}} for expression in expressions]


def asks(*requests: Object, constraints: Sequence[Object] = (), name: str = "other") -> Object:
    body = claim(name)
    body["spec"]["devices"] = {
        "requests": list(requests),
        **({"constraints": list(constraints)} if constraints else {}),
    }
    return body


def has(name: str, *devices: str, node: str = NODE1, pool: str = "", **fields: Any) -> Object:
    """A claim that has ``devices`` and is reserved for a pod of its name."""
    body = claim(name, *devices)
    for item in body["status"]["allocation"]["devices"]["results"]:
        item |= {"pool": pool or f"{node}/{item['device']}", **fields}
    return body


def look(*claims: Object, message: str = NONE_FITS, **changes: Any) -> Finding:
    """What `lab diagnose` says of whether claims can be met; pod ``other`` waits for the claim of its name."""
    fields: dict[str, Any] = {
        "claims": [claim("user", "mock0"), *claims],
        "pods": [pod(), waiting("other", message)],
        "device_classes": [*device_classes(), GPU_CLASS],
        "slices": [*published(), *FOREIGN_SLICES],
    }
    return CAN_BE_MET.check(replace(HEALTHY, **fields | changes))


def cause(*claims: Object, message: str = NONE_FITS, **changes: Any) -> str:
    """The cause alone; empty when there is only what the scheduler says."""
    found = look(*claims, message=message, **changes)
    assert found.remedy
    start, end = "pod default/other: ", f"the scheduler says: {message}"
    assert found.evidence.startswith(start) and found.evidence.endswith(end)
    return found.evidence.removeprefix(start).removesuffix(end).removesuffix("; ")


NEEDS_ALL = "claim default/other, request 'device': "


def test_device_with_administrative_access_is_not_taken() -> None:
    """All six of node 2 are watched, and free."""
    watched = has("watch", *PFS, node=NODE2, adminAccess=True)
    assert cause(asks(request(count=6)), watched) == ""
    assert cause(asks(request(count=7)), watched) == (
        f"{NEEDS_ALL}7 of mock-accel-pf on one node, at most 6 are free there, of 12 published"
    )


def test_administrative_access_needs_no_free_device() -> None:
    taken = [has("a", *PFS), has("b", *PFS, node=NODE2)]
    assert cause(asks(request(adminAccess=True, count=6)), *taken) == ""
    assert cause(asks(request(adminAccess=True, count=7)), *taken).startswith(
        f"{NEEDS_ALL}7 of mock-accel-pf on one node"
    )


def test_all_devices_of_a_node() -> None:
    everything = asks(request(allocationMode="All"))
    assert cause(everything) == ""  # node 2 has them
    found = look(everything, has("b", "mock3", node=NODE2))
    assert found.evidence.startswith(
        f"pod default/other: {NEEDS_ALL}all of mock-accel-pf on one node: on each node some are not free "
        f"({NODE1}: mock0; {NODE2}: mock3); the scheduler says: "
    )
    watch = asks(request(allocationMode="All", adminAccess=True))
    assert cause(watch, has("b", "mock3", node=NODE2)) == ""


def test_all_devices_that_meet_a_selector() -> None:
    uuid = f'{ATTRIBUTES}.uuid == "NODE2-NUMA0-PF"'
    assert cause(asks(request(allocationMode="All", selectors=cel(uuid))), has("b", "mock3", node=NODE2)) == ""
    assert cause(asks(request(allocationMode="All", selectors=cel(f"{ATTRIBUTES}.numaNode == 7")))) == (
        f"{NEEDS_ALL}all of mock-accel-pf where {ATTRIBUTES}.numaNode == 7: no such device is published "
        "(their numaNode: 0, 1)"
    )
    hard = asks(request(allocationMode="All", selectors=cel(f"{ATTRIBUTES}.numaNode < 1")))
    assert cause(hard, has("b", "mock0", node=NODE2)) == ""  # what it selects is not known


def test_all_vfs_where_there_are_none() -> None:
    assert cause(asks(request(device_class="mock-accel-vf", allocationMode="All"))) == (
        f"{NEEDS_ALL}all of mock-accel-vf: no such device is published"
    )


def test_mode_of_a_later_version_is_not_judged() -> None:
    assert cause(asks(request(allocationMode="Half"))) == ""


def alternatives(*wanted: Object) -> Object:
    items = [{"name": f"way{number}", **item["exactly"]} for number, item in enumerate(wanted)]
    return {"name": "device", "firstAvailable": items}


def test_alternatives_have_a_cause_when_none_can_be_met() -> None:
    too_many, vf, gpu = request(count=7), request(device_class="mock-accel-vf"), request(device_class="gpu", count=99)
    assert cause(asks(alternatives(vf, too_many))) == (
        f"{NEEDS_ALL}1 of mock-accel-vf on one node, at most 0 are free there, of 0 published; or else "
        "7 of mock-accel-pf on one node, at most 6 are free there, of 12 published"
    )
    assert cause(asks(alternatives(vf, too_many, gpu))) == ""
    assert cause(asks(alternatives(too_many, request()))) == ""


def test_request_of_a_later_version_has_no_cause() -> None:
    assert cause(asks({"name": "device", "scored": {}})) == ""


NUMA, PF_UUID = f"{OURS}/numaNode", f"{OURS}/uuid"


@pytest.mark.parametrize(
    ("requests", "constraint", "cannot"),
    [
        ([request(count=3)], {"matchAttribute": NUMA}, False),
        ([request(count=4)], {"matchAttribute": NUMA}, True),
        ([request("a", count=2), request("b", count=2)], {"matchAttribute": NUMA}, True),
        ([request("a", count=2), request("b", count=2)], {"matchAttribute": NUMA, "requests": ["a"]}, False),
        ([request("a", count=3), request("b", device_class="gpu")], {"matchAttribute": NUMA}, False),
        ([request(count=2)], {"matchAttribute": PF_UUID}, True),
        ([request(count=2)], {"matchAttribute": f"{OURS}/color"}, True),
        ([request(count=2)], {"distinctAttribute": NUMA}, False),
        ([request(count=3)], {"distinctAttribute": NUMA}, True),
        ([request(count=3)], {"distinctAttribute": PF_UUID}, False),
        ([request(count=4)], {"matchLater": NUMA}, False),
        ([request(count=4, derivedAttributes=[{"name": "x", "expression": "1"}])], {"matchAttribute": NUMA}, False),
        ([alternatives(request(count=4), request(count=2))], {"matchAttribute": NUMA}, False),
        ([request(allocationMode="All")], {"matchAttribute": NUMA}, False),
        ([request("a", count=3), request("b", count=3, adminAccess=True)], {"matchAttribute": NUMA}, False),
    ],
)
def test_constraint_is_a_cause_when_no_node_can_meet_it(
    requests: list[Object], constraint: Object, cannot: bool
) -> None:
    found = cause(asks(*requests, constraints=[constraint]))
    assert bool(found) is cannot, found
    if cannot:
        kind = "different" if "distinctAttribute" in constraint else "the same"
        assert found.endswith(f"; no node has enough free devices with {kind} {next(iter(constraint.values()))}")


def test_constraint_on_attributes_with_several_values_is_not_judged() -> None:
    several = published()
    for item in several:
        for device in item["spec"]["devices"]:
            device["attributes"]["numaNode"] = {"ints": [0, 1]}
    assert cause(asks(request(count=4), constraints=[{"matchAttribute": NUMA}]), slices=several) == ""


def test_requests_that_cannot_be_met_together() -> None:
    assert cause(asks(request("a", count=4), request("b", count=3))) == (
        "claim default/other, request 'a' and claim default/other, request 'b': "
        "together 7 of mock-accel-pf on one node, at most 6 are free there"
    )
    assert cause(asks(request("a", count=4), request("b", count=3, adminAccess=True))) == ""


def test_claim_of_another_drivers_class_is_not_explained_by_our_devices() -> None:
    """Its 16 devices are not ours to count."""
    assert cause(asks(request(device_class="gpu", count=9))) == ""
    model = f'device.attributes["{FOREIGN}"].model == "NEWEST"'
    assert cause(asks(request(device_class="gpu", selectors=cel(model)))) == ""
    assert look(asks(request(device_class="gpu"))).evidence == f"pod default/other: the scheduler says: {NONE_FITS}"


@pytest.mark.parametrize(
    ("class_selectors", "known"),
    [
        ([], False),
        ([f'device.driver == "{OURS}" || device.driver == "{FOREIGN}"'], False),
        ([f'device.driver == "{OURS}"'], True),
        ([f'device.driver == "{OURS}" && {ATTRIBUTES}.memory > 5'], True),
        ([f'device.driver == "{OURS}"', f"{ATTRIBUTES}.memory > 5"], True),
    ],
)
def test_class_is_what_its_selectors_say(class_selectors: list[str], known: bool) -> None:
    mine = {"metadata": {"name": "mine"}, "spec": {"selectors": cel(*class_selectors)}}
    found = cause(asks(request(device_class="mine", count=13)), device_classes=[*device_classes(), mine])
    expected = f"{NEEDS_ALL}13 of mine on one node, at most 6 are free there, of 12 published"
    assert found == (expected if known else "")


def test_class_that_is_not_there() -> None:
    found = cause(asks(request(device_class="fast")))
    assert found == f"{NEEDS_ALL}there is no DeviceClass 'fast'; there are mock-accel-pf, mock-accel-vf, gpu"


@pytest.mark.parametrize("selector", [f'device.driver == "{FOREIGN}"', f'device.driver == "{OURS}"', "true"])
def test_class_of_ours_that_selects_something_else(selector: str) -> None:
    classes = device_classes()
    classes[0] = copy.deepcopy(classes[0])
    classes[0]["spec"]["selectors"] = cel(selector)
    found = diagnosis.walk(replace(HEALTHY, device_classes=classes))
    assert found.broken and found.broken.step == "DeviceClasses exist"
    assert found.broken.evidence == (
        f'DeviceClass mock-accel-pf: expected CEL device.driver == "{OURS}" && {ATTRIBUTES}.deviceType == "pf", '
        f"found {selector}"
    )
    assert found.remedy == "lab deploy"


def test_class_of_ours_that_selects_less_is_fine() -> None:
    classes = device_classes()
    classes[0] = copy.deepcopy(classes[0])
    classes[0]["spec"]["selectors"] += cel(f"{ATTRIBUTES}.numaNode == 0")
    assert diagnosis.walk(replace(HEALTHY, device_classes=classes)).healthy


@pytest.mark.parametrize(
    "reason",
    [
        "0/2 nodes are available: 1 Insufficient memory, 1 cannot allocate all claims. no preemption",
        "0/2 nodes are available: 2 Insufficient memory.",
        "claim default/other, request device: asks for all devices, but resource pool x is currently being updated",
    ],
)
def test_selectors_are_no_cause_when_the_scheduler_says_something_else(reason: str) -> None:
    assert cause(asks(request(selectors=cel(f"{ATTRIBUTES}.memory > 1"))), message=reason) == ""


def test_selectors_are_the_cause_on_the_node_that_the_pod_wants() -> None:
    reason = (
        "0/2 nodes are available: 1 cannot allocate all claims, 1 node(s) didn't match Pod's node affinity/selector. no"
    )
    there = waiting("other", reason)
    there["spec"]["nodeSelector"] = {"kubernetes.io/hostname": NODE1}
    hard = f"{ATTRIBUTES}.memory > 1"
    found = cause(asks(request(selectors=cel(hard))), pods=[pod(), there], message=reason)
    assert found.startswith(f"{NEEDS_ALL}CEL {hard} is met by fewer than 1 of the 5 free devices (their memory: ")


def test_selectors_are_no_cause_beside_other_requests() -> None:
    hard = request("a", selectors=cel(f"{ATTRIBUTES}.memory > 1"))
    assert cause(asks(hard)) != ""
    assert cause(asks(hard, request("b", device_class="gpu"))) == ""
    assert cause(asks(hard, constraints=[{"matchAttribute": NUMA, "requests": ["a"]}])) == ""


@pytest.mark.parametrize(
    ("reason", "known"),
    [
        ("running Filter: claim default/other: selector #0 on device x: CEL runtime error: no such key: color", True),
        (
            "running Filter: claim default/another: selector #0 on device x: CEL runtime error: no such key: color",
            False,
        ),
        ("running Filter: claim default/other: selector #1 on device x: CEL runtime error: no such key: color", False),
        ("running Filter: class gpu: selector #0 on device x: CEL runtime error: no such key: color", False),
    ],
)
def test_failing_cel_is_that_which_the_scheduler_names(reason: str, known: bool) -> None:
    found = cause(asks(request(selectors=cel(f"{ATTRIBUTES}.memory > 1"))), message=reason)
    assert found.startswith(f"{NEEDS_ALL}CEL {ATTRIBUTES}.memory > 1 fails for a device") is known
    assert bool(found) is known


def test_selector_that_too_few_devices_of_each_node_meet() -> None:
    near = asks(request(count=4, selectors=cel(f"{ATTRIBUTES}.numaNode == 0")))
    assert cause(near) == (
        f"{NEEDS_ALL}CEL {ATTRIBUTES}.numaNode == 0 is met by at most 3 free devices of one node, 4 are asked "
        "(their numaNode: 0, 1)"
    )


def test_pf_whose_vf_is_allocated_is_not_free() -> None:
    counters = [{"name": "slots", "counters": {"slots": {"value": "2"}}}]
    slices = [item for item in published() if item["spec"]["nodeName"] == NODE1]
    for item in list(slices):
        name = item["spec"]["devices"][0]["name"]
        device = item["spec"]["devices"][0]
        device["consumesCounters"] = [{"counterSet": "slots", "counters": {"slots": {"value": "2"}}}]
        vf = copy.deepcopy(item)
        vf["metadata"]["name"] += "-vf0"
        vf["metadata"]["labels"]["device"] = f"{name}_vf0"
        vf["spec"]["devices"][0] |= {"name": f"{name}-vf0"}
        vf["spec"]["devices"][0]["attributes"]["deviceType"] = {"string": "vf"}
        vf["spec"]["devices"][0]["consumesCounters"][0]["counters"]["slots"]["value"] = "1"
        shared = copy.deepcopy(item)
        del shared["spec"]["devices"]
        shared["spec"]["sharedCounters"] = counters
        slices += [vf, shared]
    vfs = [has(f"vf-{name}", f"{name}-vf0", pool=f"{NODE1}/{name}") for name in PFS]
    cluster = replace(HEALTHY, slices=slices, claims=[asks(request()), *vfs], pods=[waiting("other", NONE_FITS)])
    assert CAN_BE_MET.check(cluster).evidence.startswith(
        f"pod default/other: {NEEDS_ALL}1 of mock-accel-pf on one node, at most 0 are free there, of 6 published; the"
    )


def rule(name: str = "maintenance", effect: str = "NoSchedule", **selector: str) -> Object:
    taint = {"key": "example.com/maintenance", "value": "yes", "effect": effect}
    return {"metadata": {"name": name}, "spec": {"deviceSelector": selector, "taint": taint}}


def test_taint_rule_keeps_a_pod_off() -> None:
    found = look(asks(request()), taint_rules=[rule(driver=OURS)])
    assert found.evidence.startswith(
        f"pod default/other: {NEEDS_ALL}1 of mock-accel-pf on one node, at most 0 are free there, of 12 published; "
        "11 have a taint that is not tolerated: example.com/maintenance=yes:NoSchedule (DeviceTaintRule maintenance); "
    )
    tolerant = request(tolerations=[{"key": "example.com/maintenance", "operator": "Exists"}])
    assert cause(asks(tolerant), taint_rules=[rule(driver=OURS)]) == ""
    assert cause(asks(request()), taint_rules=[rule(driver=FOREIGN), rule(effect="None")]) == ""
    everything = asks(request(allocationMode="All"))
    assert cause(everything, taint_rules=[rule(device="mock1")]).endswith(f"({NODE1}: mock0, mock1; {NODE2}: mock1)")


def test_remedy_shows_what_keeps_devices_off() -> None:
    fields: dict[str, Any] = {
        "claims": [claim("user", "mock0"), asks(request())],
        "pods": [waiting("other", NONE_FITS)],
    }
    ruled = CAN_BE_MET.check(replace(HEALTHY, taint_rules=[rule()], **fields))
    assert ruled.remedy == "lab kubectl get devicetaintrules -o yaml"
    sick = published()
    for item in sick:
        item["spec"]["devices"][0]["taints"] = [
            {"key": f"{OURS}/unhealthy", "value": "NoAnswer", "effect": "NoSchedule"}
        ]
    assert CAN_BE_MET.check(replace(HEALTHY, slices=sick, **fields)).remedy == (
        "lab logs --component node-agent --severity warning"
    )


def extended(count: int, *more: int) -> Object:
    body = waiting("other", NONE_FITS)
    del body["spec"]["resourceClaims"]
    resource = "deviceclass.resource.kubernetes.io/mock-accel-pf"
    body["spec"]["containers"] = [
        {"name": f"c{number}", "resources": {"requests": {resource: str(amount)}}}
        for number, amount in enumerate((count, *more))
    ]
    return body


def test_extended_resource_that_no_node_has_enough_of() -> None:
    assert cause(pods=[pod(), extended(7)]) == (
        "extended resource deviceclass.resource.kubernetes.io/mock-accel-pf of c0: "
        "7 of mock-accel-pf on one node, at most 6 are free there, of 12 published"
    )
    assert cause(pods=[pod(), extended(6)]) == ""
    assert cause(pods=[pod(), extended(4, 3)]).endswith(
        "together 7 of mock-accel-pf on one node, at most 6 are free there"
    )


def test_extended_resource_of_a_device_plugin_is_not_judged() -> None:
    offered = {"deviceclass.resource.kubernetes.io/mock-accel-pf": "8"}
    ready = HEALTHY.nodes[NODE1]["status"]
    nodes = {NODE1: {"status": {**ready, "allocatable": offered}}, NODE2: HEALTHY.nodes[NODE2]}
    assert cause(pods=[pod(), extended(7)], nodes=nodes) == ""


def test_pod_that_waits_for_binding_conditions() -> None:
    body = has("other", "gpu-0", pool=NODE1, driver=FOREIGN, bindingConditions=["attached"])
    body["status"]["devices"] = [
        {
            "driver": FOREIGN,
            "pool": NODE1,
            "device": "gpu-0",
            "conditions": [{"type": "attached", "status": "False", "reason": "Fabric", "message": "no switch"}],
        }
    ]
    waits = waiting("other", "")
    waits["status"]["conditions"] = []
    found = look(body, pods=[pod(), waits])
    why = f"claim 'other': device {NODE1} gpu-0 of {FOREIGN} waits to be bound: attached is False, Fabric: no switch"
    assert found.evidence == f"pod default/other: {why}"
    assert found.remedy == "lab kubectl -n default get resourceclaim other -o yaml"
    assert cause(body) == why  # a word of the scheduler from before comes after it
    body["status"]["devices"][0]["conditions"][0]["status"] = "True"
    assert look(body, pods=[pod(), waits]).evidence == "1 pods wait for the scheduler's first word"


def test_pod_with_scheduling_gates_has_no_cause() -> None:
    gated = waiting("other", "Scheduling is blocked due to non-empty scheduling gates")
    gated["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    found = look(asks(request(count=99)), pods=[pod(), gated])
    assert found.evidence.startswith("pod default/other: the scheduler says: Scheduling is blocked")


def test_shared_devices_are_not_counted() -> None:
    """One of them may do for several requests."""
    shared = published()
    for item in shared:
        item["spec"]["devices"][0]["allowMultipleAllocations"] = True
    assert cause(asks(request(count=20)), slices=shared) == ""
