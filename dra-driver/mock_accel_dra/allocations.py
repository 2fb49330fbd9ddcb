"""Read a ResourceClaim's allocation and reservations; no I/O.

API: resource.k8s.io/v1, ``status.allocation`` and ``status.reservedFor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.discovery import published_name
from mock_accel_dra.names import is_pool_of
from mock_accel_dra.state import PreparedClaim

Object = dict[str, Any]


def own_results(claim: Mapping[str, Any]) -> list[Object]:
    """Allocation results of ``claim`` for this driver."""
    results = _allocation(claim).get("devices", {}).get("results") or []
    return [result for result in results if result["driver"] == DRIVER_NAME]


def results_here(claim: Mapping[str, Any], node: str) -> list[Object]:
    """Allocation results of ``claim`` for this driver on ``node``."""
    return [result for result in own_results(claim) if is_pool_of(result["pool"], node)]


def allocation_time(claim: Mapping[str, Any]) -> str:
    """When the claim was allocated (RFC 3339); empty if the scheduler did not record it."""
    return str(_allocation(claim).get("allocationTimestamp") or "")


def users(claim: Mapping[str, Any]) -> list[str]:
    """Consumers for which the claim is reserved, like ``pod web-0 (uid …)``."""
    reserved = claim.get("status", {}).get("reservedFor") or []
    return [f"{str(item['resource']).removesuffix('s')} {item['name']} (uid {item['uid']})" for item in reserved]


def why_stale(claim: Mapping[str, Any] | None, prepared: PreparedClaim, node: str) -> str:
    """Why no pod on ``node`` may use ``prepared`` any longer; empty if a pod may.

    ``claim`` is the API object of that namespace and name, None if there is none. A
    kubelet starts no pod for which a claim is not reserved. It unprepares a claim
    before it reports the pod's end, and only then is the reservation removed
    (pkg/kubelet/cm/dra/manager.go, pkg/kubelet/kubelet.go, pkg/controller/resourceclaim).
    """
    if claim is None:
        return "the claim is gone"
    if (uid := claim["metadata"]["uid"]) != prepared.uid:
        return f"the claim was replaced by one of uid {uid}"
    if not _allocation(claim):
        return "the claim is not allocated"
    here = {result["device"] for result in results_here(claim, node)}
    missing = [device.name for device in prepared.devices if published_name(device.name) not in here]
    if missing:
        found = ", ".join(f"{result['device']} of pool {result['pool']}" for result in own_results(claim))
        return f"the claim is allocated to {found or 'no device of this driver'}, not to {', '.join(missing)} here"
    return "" if users(claim) else "the claim is reserved for no pod"


def _allocation(claim: Mapping[str, Any]) -> Object:
    found: Object = claim.get("status", {}).get("allocation") or {}
    return found
