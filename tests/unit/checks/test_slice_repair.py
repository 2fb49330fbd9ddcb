"""What a driver publishes, before and after others have changed its slices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import slice_repair, slices
from mock_device.checks.objects.slices import PublishedDevice, Taint

A = PublishedDevice("node1", "pool", "a", "a", "slice-1", {"any/size": 1}, {"any/memory": "1Gi"})
B = PublishedDevice("node1", "pool", "b", "b", "slice-1", {"any/size": 2})
ELSEWHERE = PublishedDevice("node2", "pool2", "c", "c", "slice-3", {"any/size": 3})
BEFORE = slice_repair.content([A, B])


def test_slices_and_labels_do_not_count() -> None:
    moved = replace(B, slice_name="slice-2", labels={"x": "y"})
    assert slice_repair.differences(BEFORE, [moved, A]) == []


@pytest.mark.parametrize(
    ("published", "complaint"),
    [
        ([A], "pool b: expected it to be published, found it not"),
        ([A, B, ELSEWHERE], "pool2 c: expected it not, found it published"),
        ([A, B, replace(B, slice_name="slice-2")], "pool b: expected it once, found it 2 times"),
        (
            [A, replace(B, attributes={})],
            "pool b: expected ({'any/size': 2}, {}, ()), found ({}, {}, ())",
        ),
        (
            [replace(A, taints=(Taint("k", "v", "NoSchedule"),)), B],
            "pool a: expected ({'any/size': 1}, {'any/memory': '1Gi'}, ()), "
            "found ({'any/size': 1}, {'any/memory': '1Gi'}, ('k=v:NoSchedule',))",
        ),
    ],
)
def test_differences_are_reported(published: list[PublishedDevice], complaint: str) -> None:
    assert slice_repair.differences(BEFORE, published) == [complaint]


class Api:
    """Slices that can be deleted and changed."""

    def __init__(self, attributes: Any) -> None:
        self.deleted: list[str] = []
        self.device = SimpleNamespace(name="a", attributes=attributes)
        self.replaced = ""

    def delete_resource_slice(self, name: str) -> None:
        self.deleted.append(name)

    def read_resource_slice(self, _: str) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(devices=[self.device]))

    def replace_resource_slice(self, name: str, _: Any) -> None:
        self.replaced = name


def api_with(monkeypatch: pytest.MonkeyPatch, published: list[PublishedDevice], attributes: Any = None) -> Api:
    api = Api(attributes)
    monkeypatch.setattr(client, "ResourceV1Api", lambda _: api)
    monkeypatch.setattr(slices, "published", lambda _: published)
    return api


def test_all_slices_of_one_node_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    api = api_with(monkeypatch, [A, B, replace(B, slice_name="slice-2"), ELSEWHERE])
    assert slice_repair.delete_of_node(ApiClient(), "node1") == ["slice-1", "slice-2"] == api.deleted


def test_attributes_of_a_device_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    api = api_with(monkeypatch, [A, ELSEWHERE], {"size": 1})
    assert slice_repair.strip_first(ApiClient(), "node1") == "slice-1" == api.replaced
    assert api.device.attributes is None


def test_nothing_to_change_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    api_with(monkeypatch, [ELSEWHERE])
    with pytest.raises(CheckError, match="node1: expected ResourceSlices with devices, found none"):
        slice_repair.strip_first(ApiClient(), "node1")
    api_with(monkeypatch, [A])
    with pytest.raises(CheckError, match="slice-1, device a: expected attributes to remove, found none"):
        slice_repair.strip_first(ApiClient(), "node1")
