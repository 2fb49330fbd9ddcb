"""Taints, health and conditions, from recorded answers of the API server."""

from __future__ import annotations

from typing import Any

from mock_device.checks.layers import device_conditions
from mock_device.checks.objects.slices import parse
from mock_device.topology import DeviceId

DRIVER = "mock-accel.example.com"


def published(*taints: dict[str, str]) -> Any:
    device = {"name": "mock0-vf0", "attributes": {}, "taints": list(taints)}
    spec = {"driver": DRIVER, "nodeName": "node1", "pool": {"name": "node1/mock0"}, "devices": [device]}
    return parse([{"metadata": {"name": "s", "labels": {"device": "mock0_vf0"}}, "spec": spec}])


def test_unexpected_taints_are_reported() -> None:
    sick = published({"key": f"{DRIVER}/unhealthy", "value": "NoAnswer", "effect": "NoSchedule"})
    assert device_conditions.taint_complaints(sick, DeviceId("node1", "mock0_vf0"), "NoAnswer") == []
    assert device_conditions.taint_complaints(sick, DeviceId("node1", "mock0_vf0"), "") == [
        "node1 mock0_vf0: expected no taint, found NoAnswer"
    ]
    assert device_conditions.taint_complaints(published(), DeviceId("node1", "mock0_vf0"), "") == []
    assert device_conditions.taint_complaints(published(), DeviceId("node1", "mock0_vf0"), "Unplugged") == [
        "node1 mock0_vf0: expected Unplugged, found no taint"
    ]
    assert device_conditions.taint_complaints(published(), DeviceId("node2", "mock0_vf0"), "") == [
        "node2 mock0_vf0 is not published"
    ]


def test_health_is_read_from_the_status_of_a_pod() -> None:
    resources = [{"resourceID": "example.com/mock-accel=mock0", "health": "Unhealthy"}]
    foreign = [{"resourceID": "gpu.example.com/node1/gpu-0", "health": "Healthy"}]
    statuses = [
        {"name": "claim:loses/device", "resources": resources},
        {"name": "claim:other/device", "resources": foreign},
        {"name": "example.com/other", "resources": []},
    ]
    pod = {"status": {"containerStatuses": [{"allocatedResourcesStatus": statuses}, {}]}}
    assert device_conditions.device_health(pod) == ["Unhealthy"]
    assert device_conditions.device_health({}) == []


def test_wrong_conditions_are_reported() -> None:
    ready = {"type": "Ready", "status": "False", "reason": "Unplugged"}
    devices = [{"driver": DRIVER, "device": "mock0", "conditions": [ready]}, {"driver": "nic", "device": "eth0"}]
    claim = {"status": {"devices": devices}}
    assert device_conditions.condition_complaints(claim, "Ready", "False", "Unplugged") == []
    assert device_conditions.condition_complaints(claim, "Ready", "True", "Prepared") == [
        "mock0: expected Ready True, Prepared; found False, Unplugged"
    ]
    assert device_conditions.condition_complaints({}, "Ready", "True", "Prepared") == [
        "status.devices has no device of the driver"
    ]


def test_message_of_a_device_is_read_from_the_status_of_a_pod() -> None:
    resources = [
        {"resourceID": "example.com/mock-accel=mock0", "health": "Unhealthy", "message": "too hot"},
        {"resourceID": "example.com/mock-accel=mock1", "health": "Healthy"},
    ]
    statuses = [{"name": "claim:c/device", "resources": resources}]
    pod = {"status": {"containerStatuses": [{"allocatedResourcesStatus": statuses}]}}
    assert device_conditions.device_messages(pod) == ["too hot", ""]
