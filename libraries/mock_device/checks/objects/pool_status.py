"""Kubernetes' own count of a driver's devices: ResourcePoolStatusRequest (resource.k8s.io/v1alpha3).

A request is answered once, in its status, by kube-controller-manager (pkg/controller/resourcepoolstatusrequest).
What it must say is computed here from slices, claims and DeviceTaintRules, by the words of the API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import availability, claim_forms, kube, slices
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.kube import kubeclient

Object = Mapping[str, Any]


@dataclass(frozen=True)
class PoolCounts:
    """Devices of a pool."""

    slices: int
    """ResourceSlices of the pool."""
    total: int
    allocated: int
    """Devices that claims have, other than with administrative access."""
    unavailable: int
    """Unallocated devices with a taint that keeps claims off."""
    available: int


_FIELDS = {
    "slices": "resourceSliceCount",
    "total": "totalDevices",
    "allocated": "allocatedDevices",
    "unavailable": "unavailableDevices",
    "available": "availableDevices",
}


def expected(items: Sequence[Object], claims: Iterable[Object], rules: Iterable[Object]) -> dict[str, PoolCounts]:
    """Counts of the driver's pools by name, from ResourceSlices, ResourceClaims and DeviceTaintRules (API's JSON).

    Shared counters are not considered, as in the API: a VF of an allocated PF is available.
    """
    own = [item for item in items if item["spec"]["driver"] == current.driver().name]
    of_pool = Counter(item["spec"]["pool"]["name"] for item in own)
    parsed = claim_forms.parse_all(claims)
    found = availability.of(slices.parse(own), parsed, availability.taint_rules(rules))
    held = {
        key
        for key, users in availability.holders(parsed).items()
        if any(not result.admin_access for _, result in users)
    }
    result = {}
    for pool, count in of_pool.items():
        devices = [device for device in found.devices if device.pool == pool]
        taken = [device for device in devices if device.published_id in held]
        kept_off = [
            device
            for device in devices
            if device not in taken and any(taint.keeps_off for taint in found.taints[device.published_id])
        ]
        left = len(devices) - len(taken) - len(kept_off)
        result[pool] = PoolCounts(count, len(devices), len(taken), len(kept_off), left)
    return result


def complaints(status: Object, wanted: Mapping[str, PoolCounts]) -> list[str]:
    """How a request's status (API's JSON) differs from the ``wanted`` counts by pool."""
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    if conditions.get("Complete", {}).get("status") != "True":
        return [f"expected condition Complete, found {', '.join(_described(item) for item in conditions.values())}"]
    pools = {item["poolName"]: item for item in status.get("pools") or []}
    found = []
    if status.get("poolCount") != len(wanted):
        found.append(f"poolCount: expected {len(wanted)}, found {status.get('poolCount')}")
    found += [f"pool {name}: missing in the answer" for name in sorted(wanted.keys() - pools.keys())]
    found += [f"pool {name}: no ResourceSlice has it" for name in sorted(pools.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & pools.keys()):
        if error := pools[name].get("validationError"):
            found.append(f"pool {name}: {error}")
        for field in fields(PoolCounts):
            expects, says = getattr(wanted[name], field.name), pools[name].get(_FIELDS[field.name])
            if says != expects:
                found.append(f"pool {name}: expected {_FIELDS[field.name]} {expects}, found {says}")
    return found


def ask(api: ApiClient, name: str, timeout: timedelta) -> Object:
    """Create a request ``name`` for the driver's pools, and return its status (API's JSON). Raises CheckError."""
    resource = client.ResourceV1alpha3Api(api)
    body = {
        "kind": "ResourcePoolStatusRequest",
        "metadata": {"name": name, "labels": dict(kube.LABELS)},
        "spec": {"driver": current.driver().name, "limit": 1000},
    }
    kube.create(
        api,
        resource.create_resource_pool_status_request,
        client.V1alpha3ResourcePoolStatusRequest,
        body,
        namespaced=False,
    )

    def answered(found: Mapping[str, Any]) -> bool:
        return name in found and found[name].status is not None

    seconds, selection = timeouts.seconds(timeout), {"field_selector": f"metadata.name={name}"}
    found = kubeclient.watch_until(resource.list_resource_pool_status_request, answered, seconds, **selection)
    if not answered(found):
        raise CheckError(
            f"ResourcePoolStatusRequest {name!r}: expected an answer within {seconds:.0f} s, found none; "
            "look at the log of kube-controller-manager"
        )
    status: Object = kubeclient.as_json(api, found[name])["status"]
    return status


def judge(api: ApiClient, name: str, timeout: timedelta) -> list[str]:
    """Ask as ``ask`` does, and compare the answer with what slices, claims and rules say now, a message each."""
    resource: Any = client.ResourceV1Api(api)
    status = ask(api, name, timeout)
    items = [kubeclient.as_json(api, item) for item in resource.list_resource_slice().items]
    rules = [kubeclient.as_json(api, item) for item in resource.list_device_taint_rule().items]
    return complaints(status, expected(items, kube.all_claims(api), rules))


def _described(condition: Object) -> str:
    return f"{condition['type']} {condition.get('status')}: {condition.get('message')}"
