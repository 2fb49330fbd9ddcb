"""A real scheduler allocates from slices with the driver's optional features; gates that are off do not disturb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build.gobuild import build_embedded_k8s

TIMEOUT_SECONDS = 400
ALPHA = (
    "DRADerivedAttributes",
    "DRADeviceCompatibilityGroups",
    "DRAListTypeAttributes",
    "DRANodeAllocatableResources",
    "DRAPartitionableDevicesType",
    "DRAResourcePoolStatus",
)
"""Gates that Kubernetes 1.37 has off by default; the last one is needed by the one before."""
WITH_SCHEDULER = "etcd,kube-apiserver,kube-scheduler,kube-controller-manager"
EVERY_DEVICE = ["mock0", "mock1", "mock1-vf0", "mock1-vf1", "mock1-vf2", "mock2", "mock2-vf0", "mock2-vf1", "mock3"]
CONDITIONS = {
    "bindingConditions": ["mock-accel.example.com/Attached"],
    "bindingFailureConditions": ["mock-accel.example.com/AttachFailed"],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_SECONDS + 60)]


def run(folder: Path, gates: str, components: str) -> dict[str, Any]:
    """Report of ``driver_features_inside.py`` with these feature gates and components."""
    return report_of(
        "driver_features_inside.py", build_embedded_k8s(), folder, gates, components, timeout=TIMEOUT_SECONDS
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    gates = ",".join(f"{name}=true" for name in ALPHA)
    return run(tmp_path_factory.mktemp("on"), gates, WITH_SCHEDULER)


def judged(case: dict[str, Any]) -> dict[str, bool]:
    """Which claims of a case were allocated and their pods bound."""
    return {name: item["judged"] == "bound" for name, item in case.items()}


def devices(case: dict[str, Any], name: str = "a") -> list[str]:
    return [item["device"] for item in case[name]["results"]]


def test_slices_with_all_features_are_accepted_as_written(found: dict[str, Any]) -> None:
    published = found["published"]
    assert (published["left out"], published["changed"]) == ([], [])
    assert published["devices"] == EVERY_DEVICE
    assert published["writes"][1:] == [0, 0]
    assert (published["numa"], published["shared"]) == ({"ints": [0, 1]}, True)


def test_two_claims_share_a_device_and_the_third_waits(found: dict[str, Any]) -> None:
    """Requests are rounded up to the next step, the next valid value, or the default."""
    case = found["shares"]
    assert judged(case) == {"a": True, "b": True, "c": False}
    (first,), (second,) = case["a"]["results"], case["b"]["results"]
    assert first["consumedCapacity"] == {"memory": "8Gi", "jobs": "30", "compute": "50m"}
    assert second["consumedCapacity"] == {"memory": "8Gi", "jobs": "15", "compute": "100m"}
    assert (first["device"], second["device"]) == ("mock0", "mock0")
    assert len({first["shareID"], second["shareID"], None}) == 3


def test_a_claim_without_capacity_gets_the_whole_device(found: dict[str, Any]) -> None:
    case = found["whole"]
    assert judged(case) == {"a": True, "b": False}
    assert case["a"]["results"][0]["consumedCapacity"]["memory"] == "16Gi"


def test_what_no_policy_allows_is_not_allocated(found: dict[str, Any]) -> None:
    assert judged(found["too much"]) == {"a": False, "b": False}
    assert judged(found["distinct"]) == {"a": False}


def test_a_partition_that_does_not_fit_waits(found: dict[str, Any]) -> None:
    """12 and 8 of 16 GiB exclude each other, 12 and 4 do not."""
    assert judged(found["partitions"]) == {"a": True, "b": False, "c": True}


def test_vfs_of_different_groups_exclude_each_other(found: dict[str, Any]) -> None:
    assert judged(found["groups"]) == {"a": True, "b": False}


def test_lists_match_if_they_have_a_common_element(found: dict[str, Any]) -> None:
    assert sorted(devices(found["near"])) == ["mock0", "mock3"]
    assert judged(found["disjoint"]) == {"a": False}
    assert devices(found["included"]) == ["mock0"]


def test_derived_attributes_match(found: dict[str, Any]) -> None:
    assert sorted(devices(found["derived"])) == ["mock0", "mock3"]


def test_host_memory_of_a_device_counts(found: dict[str, Any]) -> None:
    """A node of 1 GiB: a device needs 64 MiB beside the pod."""
    assert found["memory"]["small"] == "bound"
    assert "Insufficient memory" in found["memory"]["large"]


def test_a_pod_waits_until_its_device_is_attached(found: dict[str, Any]) -> None:
    case = found["attach"]
    (result,) = case["allocated"]
    assert {name: result[name] for name in CONDITIONS} == CONDITIONS
    assert (case["bound before"], case["after"]) == (False, "bound")


def test_a_failure_makes_the_scheduler_take_another_device(found: dict[str, Any]) -> None:
    case = found["attach"]
    assert (case["first"], case["second"], case["at last"]) == (["mock0"], ["mock1"], "bound")
    attached = ["mock-accel.example.com/Attached=True", "mock-accel.example.com/AttachFailed=False"]
    assert case["status"] == [["mock1", *attached]]


@pytest.mark.parametrize(
    ("gates", "shared"),
    [("", True), ("DRAConsumableCapacity=false,DRAFractionalCapacityRange=false", False)],
    ids=["defaults", "no consumable capacity"],
)
def test_gates_that_are_off_do_not_disturb(tmp_path: Path, gates: str, shared: bool) -> None:
    """Lists are refused, so they become numbers; other fields are dropped. Nothing is written again."""
    published = run(tmp_path, gates, "etcd,kube-apiserver")["published"]
    assert (published["devices"], published["left out"]) == (EVERY_DEVICE, [])
    assert published["writes"][1:] == [0, 0]
    assert (published["numa"], published["shared"]) == ({"int": 0}, shared)
