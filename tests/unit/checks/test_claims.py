"""Building claims, reading their allocations, and checking NUMA nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml
from support.published_devices import DRIVER, NODE, publish
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import claim_forms, claims
from mock_device.checks.objects.claim_forms import Toleration
from mock_device.checks.objects.claims import AllocatedDevice, AlternativeRequests, DeviceClass, DeviceRequest
from mock_device.checks.objects.slices import PublishedDevice
from mock_device.lab.base.paths import PROJECT

PUBLISHED = [publish(function) for function in CLUSTER.node(NODE).functions]
NAMED = {device.name: device for device in PUBLISHED}


def result(name: str, request: str = "accelerators", driver: str = DRIVER, pool: str = "") -> dict[str, str]:
    return {"request": request, "driver": driver, "pool": pool or f"{NODE}/{name}", "device": name}


def claim(*results: dict[str, str], selectors: tuple[str, ...] = (), match: str | None = None) -> dict[str, Any]:
    """Claim ``pair`` for two PFs in the API's JSON; pending without ``results``."""
    body = claims.build("pair", [DeviceRequest("accelerators", 2, selectors=selectors)], match, {})
    if results:
        body["status"] = {"allocation": {"devices": {"results": list(results)}}}
    return body


ANY, PAIR = DeviceRequest("accelerators"), DeviceRequest("accelerators", 2)
TWO_VFS = DeviceRequest("accelerators", 2, DeviceClass.VF)


@pytest.mark.parametrize(
    ("example_name", "name", "requests", "match"),
    [
        ("numa-locality", "numa-locality-claim", [PAIR], "numaNode"),
        ("basic-allocation", "basic-allocation-claim", [ANY], None),
        ("sriov-vf-allocation", "sriov-vf-claim", [TWO_VFS], "physfn"),
        (
            "mixed-pf-vf",
            "mixed-pf-vf-claim",
            [DeviceRequest("pf"), DeviceRequest("vf", device_class=DeviceClass.VF)],
            None,
        ),
        ("pcie-locality", "pcie-locality-claim", [PAIR], "resource.kubernetes.io/pcieRoot"),
    ],
)
def test_claim_equals_the_example(
    example_name: str, name: str, requests: list[claims.Request], match: str | None
) -> None:
    manifest = (PROJECT / f"docs/examples/{example_name}.yaml").read_text()
    example = next(item for item in yaml.safe_load_all(manifest) if item and item["kind"] == "ResourceClaim")
    built = claims.build(name, requests, match, {"a": "b"})
    assert built["metadata"].pop("labels") == {"a": "b"}
    assert built == example


def test_claim_has_two_requests_and_selectors() -> None:
    near = DeviceRequest("near", selectors=(claims.numa_selector(0), "true"))
    far = DeviceRequest("far", 3, DeviceClass.VF)
    devices = claims.build("both", [near, far], "resource.kubernetes.io/pcieRoot", {})["spec"]["devices"]
    assert devices == {
        "requests": [
            {
                "name": "near",
                "exactly": {
                    "deviceClassName": "mock-accel-pf",
                    "allocationMode": "ExactCount",
                    "count": 1,
                    "selectors": [
                        {"cel": {"expression": 'device.attributes["mock-accel.example.com"].numaNode == 0'}},
                        {"cel": {"expression": "true"}},
                    ],
                },
            },
            {
                "name": "far",
                "exactly": {"deviceClassName": "mock-accel-vf", "allocationMode": "ExactCount", "count": 3},
            },
        ],
        "constraints": [{"requests": ["near", "far"], "matchAttribute": "resource.kubernetes.io/pcieRoot"}],
    }
    assert [str(near), str(far)] == [
        '1 of mock-accel-pf where device.attributes["mock-accel.example.com"].numaNode == 0 and true',
        "3 of mock-accel-vf",
    ]


def test_admin_access_is_requested_and_described() -> None:
    looks = DeviceRequest("looks", admin_access=True)
    (request,) = claims.build("looks", [looks], None, {})["spec"]["devices"]["requests"]
    assert request["exactly"]["adminAccess"] is True
    assert str(looks) == "1 of mock-accel-pf (adminAccess)"


def test_alternatives_are_requested_and_described() -> None:
    first = DeviceRequest("first", device_class=DeviceClass.VF)
    second = DeviceRequest("second", 2, selectors=("true",))
    either = AlternativeRequests("either", (first, second))
    body = claims.build("choice", [either], None, {})
    assert body["spec"]["devices"]["requests"] == [
        {
            "name": "either",
            "firstAvailable": [
                {
                    "name": "first",
                    "deviceClassName": "mock-accel-vf",
                    "allocationMode": "ExactCount",
                    "count": 1,
                },
                {
                    "name": "second",
                    "deviceClassName": "mock-accel-pf",
                    "allocationMode": "ExactCount",
                    "count": 2,
                    "selectors": [{"cel": {"expression": "true"}}],
                },
            ],
        }
    ]
    words = "1 of mock-accel-vf or else 2 of mock-accel-pf where true"
    assert str(either) == words
    assert claims.describe(body) == f"claim 'choice' asks for {words} and has no devices yet"


def test_claims_of_a_template_get_its_labels() -> None:
    body = claims.build_template("each", [ANY], None, {"a": "b"})
    assert body["metadata"] == {"name": "each", "labels": {"a": "b"}}
    assert body["spec"]["metadata"] == {"labels": {"a": "b"}}
    assert body["spec"]["spec"] == claims.build("each", [ANY], None, {})["spec"]


@pytest.mark.parametrize(
    "status", [None, {}, {"allocation": None}, {"allocation": {"devices": {}}}, {"allocation": {"nodeSelector": {}}}]
)
def test_pending_claim_has_no_devices(status: dict[str, Any] | None) -> None:
    assert claims.allocated(claim() | {"status": status}, PUBLISHED) == []


def test_devices_of_other_drivers_are_ignored() -> None:
    vf = result("mock0-vf0", "first/vf", pool=f"{NODE}/mock0")
    found = claims.allocated(claim(result("mock3"), result("mock1", driver="gpu.example.com"), vf), PUBLISHED)
    assert found == [
        AllocatedDevice("pair", "accelerators", NAMED["mock3"]),
        AllocatedDevice("pair", "first", NAMED["mock0_vf0"], alternative="vf"),
    ]
    assert [device.id for device in found] == [(NODE, "mock3"), (NODE, "mock0_vf0")]
    assert str(found[1]) == "mock-cluster-node1 mock0_vf0 (0000:11:00.1)"


@pytest.mark.parametrize(
    ("published", "there"),
    [([], "none"), ([NAMED["mock4"], NAMED["mock3"]], f"{NODE}/mock3: mock3, {NODE}/mock4: mock4")],
)
def test_allocated_device_must_be_published(published: list[PublishedDevice], there: str) -> None:
    with pytest.raises(CheckError) as caught:
        claims.allocated(claim(result("mock0")), published)
    assert str(caught.value) == (
        f"claim 'pair' has device mock0 of pool {NODE}/mock0, but no ResourceSlice publishes it; slices have {there}"
    )


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (claim(), "2 of mock-accel-pf and has no devices yet"),
        (
            claim(result("mock0"), result("mock1"), match="numaNode"),
            "2 of mock-accel-pf with the same mock-accel.example.com/numaNode "
            "and has mock-cluster-node1 mock0, mock-cluster-node1 mock1",
        ),
        (claim(selectors=("a == 1", "b")), "2 of mock-accel-pf where a == 1 and b and has no devices yet"),
    ],
)
def test_claim_is_described(item: dict[str, Any], words: str) -> None:
    assert claims.describe(item) == f"claim 'pair' asks for {words}"


def test_free_pfs_are_counted_by_numa_node() -> None:
    """VFs are not counted; a NUMA node without free PFs has count 0."""
    taken = claim(*(result(name) for name in ("mock0", "mock1", "mock2", "mock4")))
    other_driver = claim(result("mock3", driver="gpu.example.com"))
    counts = claims.free(PUBLISHED, [taken, other_driver, claim()])
    assert dict(counts) == {(NODE, 0): 0, (NODE, 1): 2}
    assert claims.describe_free(counts) == (
        "free PFs: mock-cluster-node1 NUMA node 0: 0, mock-cluster-node1 NUMA node 1: 2"
    )


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "no device is published"),
        (
            {("b", 0): 1, ("a", None): 2, ("a", 1): 0},
            "free PFs: a NUMA node 1: 0, a NUMA node unknown: 2, b NUMA node 0: 1",
        ),
    ],
)
def test_free_pfs_are_described(counts: dict[tuple[str, int | None], int], words: str) -> None:
    assert claims.describe_free(Counter(counts)) == words


def test_allocation_and_reservation_of_a_claim_are_reported() -> None:
    assert claims.allocation_complaints(claim()) == []
    assert claims.allocation_complaints({**claim(), "status": {}}) == []
    held = claim(result("mock1"))
    held["status"]["reservedFor"] = [{"resource": "pods", "name": "user", "uid": "1"}]
    assert claims.allocation_complaints(held) == [
        f"claim 'pair' asks for 2 of mock-accel-pf and has {NODE} mock1",
        "it is reserved for pods user",
    ]
    del held["status"]["allocation"]
    assert claims.allocation_complaints(held) == ["it is reserved for pods user"]


def test_claim_can_ask_for_all_devices_and_tolerate_taints() -> None:
    tolerations = (Toleration("key", "Exists", effect="NoExecute", seconds=9), Toleration("other", "Equal", "value"))
    request = DeviceRequest("all", admin_access=True, every=True, tolerations=tolerations)
    body = claims.build("c", [request], None, {})
    assert body["spec"]["devices"]["requests"] == [
        {
            "name": "all",
            "exactly": {
                "deviceClassName": "mock-accel-pf",
                "allocationMode": "All",
                "adminAccess": True,
                "tolerations": [
                    {"operator": "Exists", "key": "key", "effect": "NoExecute", "tolerationSeconds": 9},
                    {"operator": "Equal", "key": "other", "value": "value"},
                ],
            },
        }
    ]
    assert str(request) == "all of mock-accel-pf (adminAccess)"
    (wanted,) = claim_forms.parse({"metadata": {"name": "c"}, "spec": body["spec"]}).requests[0].alternatives
    assert (wanted.is_all, wanted.tolerations) == (True, tolerations)


def test_devices_can_have_different_values_of_an_attribute() -> None:
    body = claims.build("c", [DeviceRequest("a"), DeviceRequest("b")], "physfn", {}, "numaNode")
    assert body["spec"]["devices"]["constraints"] == [
        {"requests": ["a", "b"], "matchAttribute": f"{DRIVER}/physfn"},
        {"requests": ["a", "b"], "distinctAttribute": f"{DRIVER}/numaNode"},
    ]
