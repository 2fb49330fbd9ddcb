"""Writes to ResourceSlices on an idle cluster are detected and reported."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from dra_fakes.answers import api_server

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import slice_writes
from mock_device.checks.objects.slice_writes import Writes

NAME = "mock-accel.example.com-mock-cluster-node1-mock0"
AGENT = "mock-accel-dra-driver"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


def recorded(
    generation: int, version: int, *, name: str = NAME, pool: int = 1, extra: dict[str, str] | None = None
) -> dict[str, Any]:
    """A slice with device memory 1024T, as API server 1.37 stores it; ``extra`` are times of more field managers.

    The driver wrote ``1024Ti`` and found ``1Pi``: it wrote again, each time as another generation of its pool.
    """
    writers = {AGENT: "2026-11-26T10:00:01Z", **(extra or {})}
    return {
        "metadata": {
            "name": name,
            "generation": generation,
            "resourceVersion": str(version),
            "managedFields": [
                {"manager": manager, "operation": "Update", "apiVersion": "resource.k8s.io/v1", "time": time}
                for manager, time in writers.items()
            ],
        },
        "spec": {
            "driver": "mock-accel.example.com",
            "nodeName": "mock-cluster-node1",
            "pool": {"name": "mock-cluster-node1/mock0", "generation": pool, "resourceSliceCount": 1},
            "devices": [{"name": "mock0", "capacity": {"memory": {"value": "1Pi"}}}],
        },
    }


def looked(*looks: list[dict[str, Any]]) -> Writes:
    writes = Writes()
    for items in looks:
        writes.look(items)
    return writes


def test_idle_slices_have_no_complaints() -> None:
    found = looked([recorded(1, 100)], [recorded(1, 100)], [recorded(1, 100)])
    assert (found.names, found.count, found.complaints()) == ([NAME], 0, [])


def test_continual_writes_are_reported_with_the_writer() -> None:
    found = looked(*([recorded(108 + write, 900 + 7 * write, pool=54 + write)] for write in range(5)))
    assert found.count == 4
    assert found.complaints() == [
        f"{NAME}: written 4 times, by {AGENT} (Update): "
        "generation 108 → 112, pool generation 54 → 58, resourceVersion 900 → 928"
    ]


def test_writer_of_a_label_is_reported() -> None:
    """The generation, which counts changes of the spec, is unchanged; the label's writer has a separate entry."""
    found = looked([recorded(1, 100)], [recorded(1, 101, extra={"kubectl-label": "2026-11-26T10:00:00Z"})])
    assert found.complaints() == [
        f"{NAME}: written once, by kubectl-label (Update): "
        "generation 1 → 1, pool generation 1 → 1, resourceVersion 100 → 101"
    ]


def test_only_written_slices_are_reported() -> None:
    other = recorded(1, 50, name="other")
    found = looked([recorded(1, 100), other], [recorded(2, 101), other])
    assert [text.partition(":")[0] for text in found.complaints()] == [NAME]


def test_deleted_and_recreated_slice_is_reported() -> None:
    gone = looked([recorded(1, 100)], [])
    assert gone.complaints() == [f"{NAME}: was deleted"]
    gone.look([recorded(1, 105)])
    assert gone.complaints() == [
        f"{NAME}: written 2 times, by {AGENT} (Update): "
        "generation 1 → 1, pool generation 1 → 1, resourceVersion 100 → 105"
    ]


def test_new_slice_is_reported() -> None:
    found = looked([recorded(1, 100)], [recorded(1, 100), recorded(1, 101, name="new")])
    assert [text.partition(",")[0] for text in found.complaints()] == ["new: written once"]
    assert found.names == sorted([NAME, "new"])


def test_cluster_without_slices_is_an_error() -> None:
    listing = {"kind": "ResourceSliceList", "metadata": {"resourceVersion": "1"}, "items": []}
    with (
        api_server({SLICES: (200, listing)}) as api,
        pytest.raises(CheckError, match="expected ResourceSlices of mock-accel.example.com, found none"),
    ):
        slice_writes.follow(api, timedelta(seconds=0.1))
