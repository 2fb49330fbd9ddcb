"""Causes of claims that cannot be met: requests, constraints, device classes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from support.claim_cases import (
    ATTRIBUTES,
    FOREIGN,
    NEEDS_ALL,
    NUMA,
    OURS,
    PF_UUID,
    PFS,
    Object,
    alternatives,
    asks,
    cause,
    cel,
    has,
    look,
    request,
)
from support.diagnosis_cases import HEALTHY, NONE_FITS
from support.recorded_cluster import NODE1, NODE2, device_classes, published

from mock_device.diagnosis import diagnosis


def test_device_with_administrative_access_is_not_taken() -> None:
    """All six devices of node 2 have administrative access only, and are free."""
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


def test_all_devices_of_a_node_must_be_free() -> None:
    everything = asks(request(allocationMode="All"))
    assert cause(everything) == ""  # node 2 has them
    found = look(everything, has("b", "mock3", node=NODE2))
    assert found.evidence.startswith(
        f"pod default/other: {NEEDS_ALL}all of mock-accel-pf on one node: on each node some are not free "
        f"({NODE1}: mock0; {NODE2}: mock3); the scheduler says: "
    )
    watch = asks(request(allocationMode="All", adminAccess=True))
    assert cause(watch, has("b", "mock3", node=NODE2)) == ""


def test_all_devices_that_meet_a_selector_must_be_free() -> None:
    uuid = f'{ATTRIBUTES}.uuid == "NODE2-NUMA0-PF"'
    assert cause(asks(request(allocationMode="All", selectors=cel(uuid))), has("b", "mock3", node=NODE2)) == ""
    assert cause(asks(request(allocationMode="All", selectors=cel(f"{ATTRIBUTES}.numaNode == 7")))) == (
        f"{NEEDS_ALL}all of mock-accel-pf where {ATTRIBUTES}.numaNode == 7: no such device is published "
        "(their numaNode: 0, 1)"
    )
    hard = asks(request(allocationMode="All", selectors=cel(f"{ATTRIBUTES}.numaNode < 1")))
    assert cause(hard, has("b", "mock0", node=NODE2)) == ""  # its CEL is not evaluated


def test_request_for_all_of_no_devices_is_a_cause() -> None:
    assert cause(asks(request(device_class="mock-accel-vf", allocationMode="All"))) == (
        f"{NEEDS_ALL}all of mock-accel-vf: no such device is published"
    )


def test_unknown_mode_has_no_cause() -> None:
    assert cause(asks(request(allocationMode="Half"))) == ""


def test_alternatives_have_a_cause_when_none_can_be_met() -> None:
    too_many, vf, gpu = request(count=7), request(device_class="mock-accel-vf"), request(device_class="gpu", count=99)
    assert cause(asks(alternatives(vf, too_many))) == (
        f"{NEEDS_ALL}1 of mock-accel-vf on one node, at most 0 are free there, of 0 published; or else "
        "7 of mock-accel-pf on one node, at most 6 are free there, of 12 published"
    )
    assert cause(asks(alternatives(vf, too_many, gpu))) == ""
    assert cause(asks(alternatives(too_many, request()))) == ""


def test_unknown_request_has_no_cause() -> None:
    assert cause(asks({"name": "device", "scored": {}})) == ""


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


def test_constraint_on_list_attributes_has_no_cause() -> None:
    several = published()
    for item in several:
        for device in item["spec"]["devices"]:
            device["attributes"]["numaNode"] = {"ints": [0, 1]}
    assert cause(asks(request(count=4), constraints=[{"matchAttribute": NUMA}]), slices=several) == ""


def test_requests_that_cannot_be_met_together_are_a_cause() -> None:
    assert cause(asks(request("a", count=4), request("b", count=3))) == (
        "claim default/other, request 'a' and claim default/other, request 'b': "
        "together 7 of mock-accel-pf on one node, at most 6 are free there"
    )
    assert cause(asks(request("a", count=4), request("b", count=3, adminAccess=True))) == ""


def test_claim_of_another_drivers_class_is_not_explained_by_our_devices() -> None:
    """The 16 devices of another driver are not counted."""
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
def test_class_is_defined_by_its_selectors(class_selectors: list[str], known: bool) -> None:
    mine = {"metadata": {"name": "mine"}, "spec": {"selectors": cel(*class_selectors)}}
    found = cause(asks(request(device_class="mine", count=13)), device_classes=[*device_classes(), mine])
    expected = f"{NEEDS_ALL}13 of mine on one node, at most 6 are free there, of 12 published"
    assert found == (expected if known else "")


def test_missing_class_is_a_cause() -> None:
    found = cause(asks(request(device_class="fast")))
    assert found == f"{NEEDS_ALL}there is no DeviceClass 'fast'; available: mock-accel-pf, mock-accel-vf, gpu"


@pytest.mark.parametrize("selector", [f'device.driver == "{FOREIGN}"', f'device.driver == "{OURS}"', "true"])
def test_changed_class_of_the_driver_is_reported(selector: str) -> None:
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


def test_narrower_class_of_the_driver_is_accepted() -> None:
    classes = device_classes()
    classes[0] = copy.deepcopy(classes[0])
    classes[0]["spec"]["selectors"] += cel(f"{ATTRIBUTES}.numaNode == 0")
    assert diagnosis.walk(replace(HEALTHY, device_classes=classes)).healthy
