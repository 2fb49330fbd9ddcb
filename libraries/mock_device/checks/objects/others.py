"""Devices that other users of the cluster hold: tests neither judge them nor choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kubernetes.client import ApiClient

from mock_device.checks.objects import claim_forms, kube, slices
from mock_device.names import MADE_BY_TESTS
from mock_device.topology import DeviceId, Node


def held(api: ApiClient) -> dict[DeviceId, str]:
    """Devices of claims that tests have not made, with ``namespace/name`` of the claim.

    Claims in the tests' namespace count as theirs, and those with their label elsewhere.
    """
    others = [item for item in kube.all_claims(api) if not _is_ours(item, kube.namespace_of_tests(api))]
    if not others:
        return {}
    known = {device.published_id: device.id for device in slices.published(api)}
    found = {}
    for item in others:
        claim = claim_forms.parse(item)
        for result in claim.own_results:
            if device := known.get(result.published_id):
                found[device] = f"{claim.namespace}/{claim.name}"
    return found


def _is_ours(claim: Mapping[str, Any], namespace: str) -> bool:
    metadata = claim["metadata"]
    return metadata["namespace"] == namespace or MADE_BY_TESTS.items() <= (metadata.get("labels") or {}).items()


def without(node: Node, devices: Mapping[DeviceId, str]) -> Node:
    """``node`` without ``devices``, and without their parents and VFs, which are not available either."""
    taken = {key.name for key in devices if key.node == node.name}
    if not taken:
        return node
    taken |= {function.parent for function in node.functions if function.parent and function.name in taken}
    taken |= {function.name for function in node.functions if function.parent in taken}
    numa_nodes = []
    for numa in node.numa_nodes:
        slots = [
            replace(slot, functions=tuple(item for item in slot.functions if item.name not in taken))
            for slot in numa.slots
        ]
        numa_nodes.append(replace(numa, slots=tuple(slot for slot in slots if slot.functions)))
    return replace(node, numa_nodes=tuple(numa_nodes))
