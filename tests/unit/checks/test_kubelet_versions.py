"""Releases of the kubelets, from the API's nodes."""

from __future__ import annotations

from typing import Any

import pytest

from mock_device.checks.nodes.kubelet_versions import complaints_of


def node_of(release: str = "v1.37.2", ready: str = "True") -> dict[str, Any]:
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": "node1"},
        "status": {"nodeInfo": {"kubeletVersion": release}, "conditions": conditions},
    }


def test_ready_node_with_the_kubelet() -> None:
    assert complaints_of(node_of(), "v1.37.2") == []


@pytest.mark.parametrize(
    ("node", "complaints"),
    [
        (node_of("v1.36.3"), ["node1: expected kubelet v1.37.2, found v1.36.3"]),
        (node_of(ready="Unknown"), ["node1 has Ready=Unknown"]),
        (
            {"metadata": {"name": "node1"}, "status": None},
            ["node1: expected kubelet v1.37.2, found none", "node1 has Ready=absent"],
        ),
    ],
)
def test_other_nodes(node: dict[str, Any], complaints: list[str]) -> None:
    assert complaints_of(node, "v1.37.2") == complaints
