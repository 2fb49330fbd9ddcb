"""Causes that depend on nodes: selectors, taints, VFs, extended resources, binding conditions."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from support.claim_cases import (
    ATTRIBUTES,
    CAN_BE_MET,
    FOREIGN,
    NEEDS_ALL,
    NUMA,
    OURS,
    PFS,
    Object,
    asks,
    cause,
    cel,
    has,
    look,
    request,
    rule,
)
from support.diagnosis_cases import HEALTHY, NONE_FITS
from support.recorded_cluster import NODE1, NODE2, claim, pod, published, waiting


@pytest.mark.parametrize(
    "reason",
    [
        "0/2 nodes are available: 1 Insufficient memory, 1 cannot allocate all claims. no preemption",
        "0/2 nodes are available: 2 Insufficient memory.",
        "claim default/other, request device: asks for all devices, but resource pool x is currently being updated",
    ],
)
def test_selectors_are_no_cause_if_the_scheduler_names_another(reason: str) -> None:
    assert cause(asks(request(selectors=cel(f"{ATTRIBUTES}.memory > 1"))), message=reason) == ""


def test_selectors_are_the_cause_on_the_selected_node() -> None:
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
def test_failing_cel_is_the_one_that_the_scheduler_names(reason: str, known: bool) -> None:
    found = cause(asks(request(selectors=cel(f"{ATTRIBUTES}.memory > 1"))), message=reason)
    assert found.startswith(f"{NEEDS_ALL}CEL {ATTRIBUTES}.memory > 1 fails for a device") is known
    assert bool(found) is known


def test_selector_met_by_too_few_devices_is_a_cause() -> None:
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


def test_taint_rule_is_a_cause() -> None:
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


def test_remedy_shows_the_origin_of_taints() -> None:
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


def test_insufficient_extended_resource_is_a_cause() -> None:
    assert cause(pods=[pod(), extended(7)]) == (
        "extended resource deviceclass.resource.kubernetes.io/mock-accel-pf of c0: "
        "7 of mock-accel-pf on one node, at most 6 are free there, of 12 published"
    )
    assert cause(pods=[pod(), extended(6)]) == ""
    assert cause(pods=[pod(), extended(4, 3)]).endswith(
        "together 7 of mock-accel-pf on one node, at most 6 are free there"
    )


def test_extended_resource_of_a_device_plugin_has_no_cause() -> None:
    offered = {"deviceclass.resource.kubernetes.io/mock-accel-pf": "8"}
    ready = HEALTHY.nodes[NODE1]["status"]
    nodes = {NODE1: {"status": {**ready, "allocatable": offered}}, NODE2: HEALTHY.nodes[NODE2]}
    assert cause(pods=[pod(), extended(7)], nodes=nodes) == ""


def test_unmet_binding_conditions_are_reported() -> None:
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
    assert cause(body) == why  # the scheduler's earlier message follows it
    body["status"]["devices"][0]["conditions"][0]["status"] = "True"
    assert look(body, pods=[pod(), waits]).evidence == "1 pods wait for the scheduler"


def test_pod_with_scheduling_gates_has_no_cause() -> None:
    gated = waiting("other", "Scheduling is blocked due to non-empty scheduling gates")
    gated["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    found = look(asks(request(count=99)), pods=[pod(), gated])
    assert found.evidence.startswith("pod default/other: the scheduler says: Scheduling is blocked")


def test_shared_devices_are_not_counted() -> None:
    """A shared device may serve several requests."""
    shared = published()
    for item in shared:
        item["spec"]["devices"][0]["allowMultipleAllocations"] = True
    assert cause(asks(request(count=20)), slices=shared) == ""
