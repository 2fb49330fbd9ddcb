"""Devices that other users of a cluster hold."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import ApiClient
from support.recorded_cluster import NODE1, published
from support.topologies import CLUSTER

from mock_device.checks.nodes import cdi, sysfs
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.objects import kube, others, slices
from mock_device.driver import current
from mock_device.names import MADE_BY_TESTS
from mock_device.topology import DeviceId

PUBLISHED = slices.parse(published())
NODE = CLUSTER.nodes[0]


def claim(name: str, device: str, namespace: str = "team", **labels: str) -> dict[str, Any]:
    """A claim that has ``device`` of the first node."""
    (item,) = (entry for entry in PUBLISHED if entry.id == DeviceId(NODE1, device))
    result = {"request": "device", "driver": current.driver().name, "pool": item.pool, "device": item.device}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }


def held(monkeypatch: pytest.MonkeyPatch, *claims: dict[str, Any]) -> dict[DeviceId, str]:
    monkeypatch.setattr(kube, "all_claims", lambda _: list(claims))
    monkeypatch.setattr(slices, "published", lambda _: PUBLISHED)
    return others.held(ApiClient())


def test_claims_of_tests_are_not_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = claim("a", "mock0", namespace="default"), claim("b", "mock1", **MADE_BY_TESTS)
    assert held(monkeypatch, *ours) == {}
    theirs = claim("c", "mock3", **{"app.kubernetes.io/managed-by": "helm"})
    assert held(monkeypatch, *ours, theirs) == {DeviceId(NODE1, "mock3"): "team/c"}


def test_devices_of_others_are_not_chosen_nor_their_parents_and_vfs() -> None:
    names = [function.name for function in NODE.functions]
    assert others.without(NODE, {}) is NODE
    assert others.without(NODE, {DeviceId("another", "mock0"): "team/c"}) is NODE
    left = others.without(NODE, {DeviceId(NODE1, "mock0_vf1"): "team/c", DeviceId(NODE1, "mock4"): "team/d"})
    gone = {"mock0", "mock0_vf0", "mock0_vf1", "mock4"}
    assert [function.name for function in left.functions] == [name for name in names if name not in gone]
    assert [len(numa.slots) for numa in left.numa_nodes] == [1, 2]


def test_registers_and_files_of_others_are_not_judged() -> None:
    device = sysfs.Accelerator("mock3", "uuid", 1, 1, 1, 1, "0000:21:00.0")
    found = [sysfs.NodeDevices(NODE1, (), (device,))]
    key = DeviceId(NODE1, "mock3")
    assert len(sysfs.register_complaints(found, ())) == 1
    assert sysfs.register_complaints(found, (), {key: "team/c"}) == []
    assert sysfs.register_complaints([], {key}, {key: "team/c"}) == []
    file = CdiFile(NODE1, cdi.path_of("mock3"), "{}")
    assert len(cdi.complaints([file], {})) == 1
    assert cdi.complaints([file], {}, {key: "team/c"}) == []
    assert cdi.complaints([], {key: CLUSTER.devices[key]}, {key: "team/c"}) == []
