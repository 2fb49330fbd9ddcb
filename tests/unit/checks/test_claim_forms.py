"""Every form of a claim (resource.k8s.io/v1), as returned by the API server of Kubernetes 1.37."""

from __future__ import annotations

from typing import Any

import pytest

from mock_device.checks.objects import claim_forms
from mock_device.checks.objects.claim_forms import Claim, Condition, Constraint, Toleration, Wanted
from mock_device.checks.objects.slices import Taint

OURS, FOREIGN = "mock-accel.example.com", "gpu.example.com"
SHARE = "4f7a8b0e-6d0b-4c8e-9d53-0d5bd1a6a001"


def parse(*requests: dict[str, Any], constraints: list[dict[str, Any]] | None = None, **status: Any) -> Claim:
    devices: dict[str, Any] = {"requests": list(requests)}
    if constraints:
        devices["constraints"] = constraints
    item = {"metadata": {"namespace": "default", "name": "c"}, "spec": {"devices": devices}, "status": status}
    return claim_forms.parse(item)


def exactly(name: str = "r", **fields: Any) -> dict[str, Any]:
    defaults = {"deviceClassName": "mock-accel-pf", "allocationMode": "ExactCount", "count": 1}
    return {"name": name, "exactly": {**defaults, **fields}}


def result(device: str, driver: str = OURS, **fields: Any) -> dict[str, Any]:
    return {"request": "r", "driver": driver, "pool": f"node1/{device}", "device": device, **fields}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": 3}, "3 of mock-accel-pf"),
        ({"allocationMode": "All"}, "all of mock-accel-pf"),
        ({"allocationMode": "All", "adminAccess": True}, "all of mock-accel-pf (adminAccess)"),
        ({"adminAccess": True}, "1 of mock-accel-pf (adminAccess)"),
        ({"allocationMode": "Half"}, "Half of mock-accel-pf"),
        (
            {"selectors": [{"cel": {"expression": "a"}}, {"cel": {"expression": "b"}}]},
            "1 of mock-accel-pf where a and b",
        ),
        ({"capacity": {"requests": {"memory": "10Gi"}}}, "1 of mock-accel-pf with 10Gi of memory"),
    ],
)
def test_request_is_described(fields: dict[str, Any], words: str) -> None:
    if fields.get("allocationMode") == "All":  # in that mode the API server sets no count
        fields = {**fields, "count": 0}
    assert str(parse(exactly(**fields))) == f"claim 'c' asks for {words} and has no devices yet"


def test_each_alternative_has_its_own_class_count_and_mode() -> None:
    request = {
        "name": "r",
        "firstAvailable": [
            {"name": "big", "deviceClassName": "gpu", "allocationMode": "All"},
            {"name": "small", "deviceClassName": "mock-accel-vf", "allocationMode": "ExactCount", "count": 2},
        ],
    }
    claim = parse(request)
    assert claim.requests[0].alternatives == (
        Wanted("r/big", "gpu", mode="All"),
        Wanted("r/small", "mock-accel-vf", count=2),
    )
    assert str(claim) == "claim 'c' asks for all of gpu or else 2 of mock-accel-vf and has no devices yet"


def test_unknown_requests_and_constraints_are_called_unknown() -> None:
    claim = parse({"name": "r", "scored": {}}, constraints=[{"matchExpression": "x"}])
    assert claim.requests[0].alternatives == ()
    assert str(claim) == (
        "claim 'c' asks for request 'r' of an unknown form with an unknown constraint and has no devices yet"
    )


def test_constraints_are_parsed() -> None:
    same, different = parse(
        exactly("a"),
        exactly("b"),
        constraints=[
            {"requests": ["a", "b/x"], "matchAttribute": f"{OURS}/numaNode"},
            {"distinctAttribute": f"{OURS}/physfn"},
        ],
    ).constraints
    assert same == Constraint(f"{OURS}/numaNode", requests=("a", "b/x"))
    assert [same.concerns(Wanted(name, "")) for name in ("a", "a/y", "b/x", "b/y", "c")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert different.concerns(Wanted("c", ""))
    assert [str(same), str(different)] == [f"the same {OURS}/numaNode", f"different {OURS}/physfn"]


def test_results_of_all_drivers_are_parsed() -> None:
    claim = parse(
        exactly(),
        allocation={
            "devices": {
                "results": [
                    result("mock0"),
                    result("mock1", adminAccess=True),
                    result("mock2", shareID=SHARE, consumedCapacity={"memory": "2Gi"}),
                    result("gpu0", FOREIGN) | {"request": "r/big", "pool": "node1"},
                ]
            }
        },
    )
    assert [item.takes_device for item in claim.results] == [True, False, False, True]
    assert [item.device for item in claim.own_results] == ["mock0", "mock1", "mock2"]
    assert (claim.results[3].request, claim.results[3].alternative) == ("r", "big")
    assert str(claim) == (
        "claim 'c' asks for 1 of mock-accel-pf and has node1 mock0, node1 mock1 (adminAccess), "
        f"node1 mock2 (a share of it, 2Gi of memory), node1 gpu0 of {FOREIGN}"
    )


def test_claim_without_requests_is_allocated_without_devices() -> None:
    claim = parse(
        allocation={}, reservedFor=[{"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": "g", "uid": "1"}]
    )
    assert claim.is_allocated and not claim.results
    assert (str(claim), claim.pods) == ("claim 'c' asks for nothing", ())


@pytest.mark.parametrize(
    ("conditions", "waits"),
    [
        ([], ["attached is not reported", "linked is not reported"]),
        (
            [
                {"type": "attached", "status": "True"},
                {"type": "linked", "status": "False", "reason": "Busy", "message": "m"},
            ],
            ["linked is False, Busy: m"],
        ),
        ([{"type": "attached", "status": "True"}, {"type": "linked", "status": "True"}], []),
        ([{"type": "broken", "status": "True", "reason": "Fire"}], ["broken is True, Fire"]),
    ],
)
def test_unmet_and_failed_binding_conditions_are_reported(conditions: list[dict[str, Any]], waits: list[str]) -> None:
    bound = result("gpu0", FOREIGN, bindingConditions=["attached", "linked"], bindingFailureConditions=["broken"])
    other = {
        "driver": FOREIGN,
        "pool": "node1/gpu1",
        "device": "gpu1",
        "conditions": [{"type": "broken", "status": "True"}],
    }
    reported = {"driver": FOREIGN, "pool": "node1/gpu0", "device": "gpu0", "conditions": conditions}
    (found,) = parse(exactly(), allocation={"devices": {"results": [bound]}}, devices=[other, reported]).results
    assert found.waits_for() == waits
    assert parse(exactly(), allocation={"devices": {"results": [result("mock0")]}}).results[0].waits_for() == []


def test_conditions_belong_to_a_share() -> None:
    share = result("gpu0", FOREIGN, shareID=SHARE, bindingConditions=["attached"])
    reported = {"driver": FOREIGN, "pool": "node1/gpu0", "device": "gpu0", "conditions": []}
    ready = {**reported, "shareID": SHARE, "conditions": [{"type": "attached", "status": "True"}]}
    (found,) = parse(exactly(), allocation={"devices": {"results": [share]}}, devices=[reported, ready]).results
    assert found.conditions == {"attached": Condition("True")}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration("k", "Exists"), True),
        (Toleration("k", "Equal", "v"), True),
        (Toleration("k", "Equal", "other"), False),
        (Toleration("other", "Exists"), False),
        (Toleration("k", "Exists", effect="NoExecute"), False),
        (Toleration("k", "Exists", effect="NoSchedule"), True),
        (Toleration("k", "Newer", "v"), False),
    ],
)
def test_toleration_matches_taints(toleration: Toleration, tolerated: bool) -> None:
    assert toleration.tolerates(Taint("k", "v", "NoSchedule")) is tolerated
    assert Wanted("r", "c", tolerations=(toleration,)).tolerates(Taint("k", "v", "NoSchedule")) is tolerated


@pytest.mark.parametrize("effect", ["None", "LaterVersionsHaveMore"])
def test_other_effects_need_no_toleration(effect: str) -> None:
    assert Wanted("r", "c").tolerates(Taint("k", "v", effect))


def test_tolerations_of_a_request_are_parsed() -> None:
    claim = parse(exactly(tolerations=[{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoSchedule"}]))
    (wanted,) = claim.requests[0].alternatives
    assert wanted.tolerations == (Toleration(operator="Exists"), Toleration("k", "Equal", "v", "NoSchedule"))
