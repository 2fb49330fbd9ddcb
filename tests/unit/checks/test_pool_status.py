"""Kubernetes' count of devices, compared with slices, claims and taint rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server, listing
from mock_accel_dra.discovery import Device
from mock_accel_dra.slices import desired

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import pool_status, taint_rules
from mock_device.checks.objects.pool_status import PoolCounts
from mock_device.checks.objects.slices import PublishedId
from mock_device.checks.objects.taint_rules import Effect

NODE = "node1"
REQUESTS = "/apis/resource.k8s.io/v1alpha3/resourcepoolstatusrequests"
FREE = PoolCounts(slices=1, total=1, allocated=0, unavailable=0, available=1)


def published() -> list[dict[str, Any]]:
    """mock0 with a VF, mock1, mock2, which is too hot, and a device of another driver."""
    devices = [
        Device("mock0", "A", 1 << 30, 0, ("compute",), 0, "0000:11:00.0", "pci0000:10", total_vfs=2),
        Device("mock0_vf0", "B", 1 << 30, 0, ("compute",), 0, "0000:11:00.1", "pci0000:10", physfn="0000:11:00.0"),
        Device("mock1", "C", 1 << 30, 0, ("compute",), 0, "0000:12:00.0", "pci0000:10"),
        Device("mock2", "D", 1 << 30, 0, ("compute",), 0, "0000:13:00.0", "pci0000:10", problem="Hot"),
    ]
    items = [item for pool in desired(NODE, "uid", devices).values() for item in pool]
    other = {"metadata": {"name": "gpu"}, "spec": {"driver": "gpu.example.com", "pool": {"name": "gpu"}, "devices": []}}
    return [*items, other]


def claim(device: str, **result: Any) -> dict[str, Any]:
    pool = f"{NODE}/{device.partition('-')[0]}"
    found = {"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": device, **result}
    return {
        "metadata": {"name": device, "namespace": "default"},
        "spec": {},
        "status": {"allocation": {"devices": {"results": [found]}}},
    }


def test_counts_come_from_slices_claims_and_rules() -> None:
    rule = taint_rules.build("off", Effect.NO_EXECUTE, PublishedId(f"{NODE}/mock1", "mock1"))
    claims = [claim("mock0-vf0"), claim("mock2", adminAccess=True)]
    assert pool_status.expected(published(), claims, [rule]) == {
        f"{NODE}/mock0": PoolCounts(slices=3, total=2, allocated=1, unavailable=0, available=1),
        f"{NODE}/mock1": PoolCounts(slices=1, total=1, allocated=0, unavailable=1, available=0),
        f"{NODE}/mock2": PoolCounts(slices=1, total=1, allocated=0, unavailable=1, available=0),
    }


def test_allocated_device_with_a_taint_is_not_also_unavailable() -> None:
    found = pool_status.expected(published(), [claim("mock2")], [])
    assert found[f"{NODE}/mock2"] == PoolCounts(slices=1, total=1, allocated=1, unavailable=0, available=0)


def answer(**changes: Any) -> dict[str, Any]:
    pool = {
        "driver": "mock-accel.example.com",
        "poolName": "node1/mock1",
        "generation": 1,
        "resourceSliceCount": 1,
        "totalDevices": 1,
        "allocatedDevices": 0,
        "availableDevices": 1,
        "unavailableDevices": 0,
        **changes,
    }
    condition = {
        "type": "Complete",
        "status": "True",
        "reason": "CalculationComplete",
        "message": "",
        "lastTransitionTime": "2026-11-28T12:00:00Z",
    }
    return {"poolCount": 1, "pools": [pool], "conditions": [condition]}


def test_answer_that_agrees_has_no_complaint() -> None:
    assert pool_status.complaints(answer(), {"node1/mock1": FREE}) == []


@pytest.mark.parametrize(
    ("status", "wanted", "complaint"),
    [
        (answer(allocatedDevices=1), {"node1/mock1": FREE}, "expected allocatedDevices 0, found 1"),
        (answer(unavailableDevices=None), {"node1/mock1": FREE}, "expected unavailableDevices 0, found None"),
        (answer(validationError="incomplete"), {"node1/mock1": FREE}, "pool node1/mock1: incomplete"),
        (answer(), {"node1/mock1": replace(FREE, slices=2)}, "expected resourceSliceCount 2, found 1"),
        (answer(), {}, "pool node1/mock1: no ResourceSlice has it"),
        (answer(), {"node1/mock1": FREE, "node1/mock2": FREE}, "pool node1/mock2: missing in the answer"),
        (answer(), {"node1/mock1": FREE, "node1/mock2": FREE}, "poolCount: expected 2, found 1"),
        (
            {"conditions": [{"type": "Failed", "status": "True", "message": "no list"}]},
            {},
            "expected condition Complete, found Failed True: no list",
        ),
    ],
)
def test_differences_are_reported(status: dict[str, Any], wanted: dict[str, PoolCounts], complaint: str) -> None:
    assert any(complaint in found for found in pool_status.complaints(status, wanted))


def request(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "ask"}, "spec": {"driver": "mock-accel.example.com"}, **status}


def served(**status: Any) -> tuple[int, dict[str, Any]]:
    """An answer to both requests, to create and to list."""
    code, found = listing(request(**status))
    return code, request() | found


def test_request_is_answered() -> None:
    with api_server({REQUESTS: served(status=answer())}) as api:
        assert pool_status.complaints(pool_status.ask(api, "ask", timedelta(seconds=2)), {"node1/mock1": FREE}) == []


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({REQUESTS: served()}, "expected an answer within 1 s, found none; look at the log"),
        (
            {REQUESTS: (404, {"message": "not served"})},
            "ResourcePoolStatusRequest 'ask': the API server refuses it, 404: not served",
        ),
    ],
)
def test_request_without_an_answer_is_an_error(answers: Any, reason: str) -> None:
    with api_server(answers) as api, pytest.raises(CheckError, match=reason):
        pool_status.ask(api, "ask", timedelta(seconds=1))
