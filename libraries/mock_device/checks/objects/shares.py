"""Claims that share a device, and the file with the attributes of a claim's devices in a container."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.checks.objects.claim_forms import Claim
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.driver import current
from mock_device.topology import Function

Object = dict[str, Any]
PARTS = 16
"""The smallest share of a device is one of this many parts (docs/driver.md, "Shares of a device")."""
_IN_CONTAINER = "/var/run/kubernetes.io/dra-device-attributes/resourceclaims"
"""Of claims that a pod names itself: k8s.io/dynamic-resource-allocation, ``api/metadata``."""


def memory(device: Function, parts: int) -> str:
    """Quantity of ``parts`` of the memory of ``device``."""
    return str(device.memory * parts // PARTS)


def window(device: Function, parts: int) -> int:
    """Bytes of the window that belong to ``parts`` of the memory of ``device``."""
    return device.window * parts // PARTS


def sharing_complaints(claims: Sequence[Claim]) -> list[str]:
    """Whether the claims have shares, with ids of their own, of one and the same device; a message each."""
    found = {claim.name: list(claim.own_results) for claim in claims}
    complaints = [
        f"claim {name}: expected one share of a device, found {[str(item.published_id) for item in results] or 'none'}"
        for name, results in found.items()
        if len(results) != 1 or not results[0].share
    ]
    if complaints:
        return complaints
    results = [results[0] for results in found.values()]
    devices, ids = {item.published_id for item in results}, {item.share for item in results}
    if len(devices) != 1:
        complaints.append(f"expected shares of one device, found {', '.join(sorted(map(str, devices)))}")
    if len(ids) != len(results):
        complaints.append(f"expected a shareID of its own for each claim, found {', '.join(sorted(ids))}")
    return complaints


def status_complaints(claim: Claim, status: Iterable[Mapping[str, Any]]) -> list[str]:
    """Whether ``status.devices`` of a claim has its share by its id, ready; a message each."""
    ready = {
        str(item.get("shareID")): any(
            entry["type"] == "Ready" and entry["status"] == "True" for entry in item.get("conditions") or ()
        )
        for item in status
    }
    return [
        f"claim {claim.name}: expected status.devices to have share {result.share} with condition Ready, found {ready}"
        for result in claim.own_results
        if not ready.get(result.share)
    ]


def attachment_complaints(claim: Claim) -> list[str]:
    """Whether the claim has devices, all of which wait for a binding condition; a message each."""
    results = list(claim.own_results)
    if not results:
        return [f"claim {claim.name}: expected devices, found none"]
    return [
        f"claim {claim.name}, device {result.device}: expected it to wait for a binding condition, found "
        f"{', '.join(result.binding_conditions) or 'no such condition'}, all met"
        for result in results
        if not result.waits_for()
    ]


def window_complaints(output: str, expected: int) -> list[str]:
    """Whether ``wc -c`` of the device memory, as a container can read it, says ``expected`` bytes."""
    size = output.strip()
    return [] if size == str(expected) else [f"expected a window of {expected} bytes, found {size[-200:]!r}"]


def metadata_path(claim: str, request: str) -> str:
    """Path in a container of the file with the attributes of a claim's devices for ``request``."""
    return f"{_IN_CONTAINER}/{claim}/{request}/{current.driver().name}-metadata.json"


def metadata_complaints(text: str, claim: str, devices: Sequence[AllocatedDevice]) -> list[str]:
    """Whether the file describes exactly ``devices``, with their uuids; a message each. Raises CheckError."""
    try:
        content: Object = json.loads(text)
        name = content["metadata"]["name"]
        found = {
            (item["driver"], item["pool"], item["name"]): item["attributes"]["uuid"]["string"]
            for request in content["requests"]
            for item in request["devices"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(f"expected an object DeviceMetadata, found {text[-300:]!r} ({error!r})") from error
    expected = {
        (current.driver().name, device.published.pool, device.published.device): device.published.attribute("uuid")
        for device in devices
    }
    complaints = [] if found == expected else [f"expected the devices {expected}, found {found}"]
    return complaints + ([] if name == claim else [f"expected the claim {claim!r}, found {name!r}"])
