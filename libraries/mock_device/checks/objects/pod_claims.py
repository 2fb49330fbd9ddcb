"""Claims of a pod in every form: named, created from a template, created for its extended resources.

Source of the fields: core/v1, ``PodSpec`` and ``PodStatus``, of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from mock_device.checks.objects.claim_forms import Object, Request, Wanted

EXTENDED_RESOURCE_PREFIX = "deviceclass.resource.kubernetes.io/"
"""Followed by the name of a DeviceClass: the extended resource that every class offers."""


@dataclass(frozen=True)
class PodClaim:
    """A claim that a pod uses."""

    entry: str
    """Name that its containers use; empty for the claim of the extended resources."""
    claim: str = ""
    """Name of the ResourceClaim; empty until it exists."""
    template: str = ""
    """ResourceClaimTemplate from which the claim is created."""
    needed: bool = True
    """False if Kubernetes has decided that the template needs no claim."""


def of_pod(pod: Object) -> list[PodClaim]:
    """All claims of ``pod`` (API's JSON): named, from templates, and for its extended resources."""
    status = pod.get("status") or {}
    made = {entry["name"]: entry.get("resourceClaimName") for entry in status.get("resourceClaimStatuses") or []}
    found = []
    for entry in (pod.get("spec") or {}).get("resourceClaims") or []:
        name = entry["name"]
        claim = entry.get("resourceClaimName") or made.get(name) or ""
        found.append(
            PodClaim(name, claim, entry.get("resourceClaimTemplateName") or "", bool(claim or name not in made))
        )
    if extended := status.get("extendedResourceClaimStatus"):
        found.append(PodClaim("", extended["resourceClaimName"]))
    return found


def named_complaints(pod: Object) -> list[str]:
    """Claims that the specification of ``pod`` names; also if the scheduler has made none for extended resources."""
    entries = (pod.get("spec") or {}).get("resourceClaims") or []
    found = [f"expected no claim in its specification, found {entry['name']}" for entry in entries]
    if not (pod.get("status") or {}).get("extendedResourceClaimStatus"):
        found.append("expected a claim for its extended resources in its status, found none")
    return found


def uses(pod: Object, container: str) -> set[tuple[str, str | None]]:
    """ResourceClaims that ``container`` of ``pod`` uses, each with the request, or None for all requests.

    Raises KeyError with the names of the containers.
    """
    containers = {item["name"]: item for item in _containers(pod)}
    if container not in containers:
        raise KeyError(f"no container {container!r} in the pod; it has {', '.join(containers)}")
    named = {item.entry: item.claim for item in of_pod(pod) if item.entry and item.claim}
    wanted = (containers[container].get("resources") or {}).get("claims") or []
    found: set[tuple[str, str | None]] = {
        (named[entry["name"]], entry.get("request")) for entry in wanted if entry["name"] in named
    }
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    return found | {
        (extended["resourceClaimName"], mapping["requestName"])
        for mapping in extended.get("requestMappings") or []
        if mapping["containerName"] == container
    }


def extended_requests(pod: Object, classes: Iterable[Object], plugged: Iterable[str] = ()) -> tuple[Request, ...]:
    """Requests that the scheduler derives from the extended resources of ``pod``, even before it creates a claim.

    ``classes`` are DeviceClasses (API's JSON), ``plugged`` the resources that the
    nodes' device plugins offer. Init containers that end share devices with the
    containers after them (``createRequestsAndMappings`` of the scheduler's plugin
    dynamicresources).
    """
    classes = list(classes)
    spec = pod.get("spec") or {}
    starts = len(spec.get("initContainers") or [])
    containers = _containers(pod)
    amounts = [
        {name: int(parse_quantity(value)) for name, value in _resources(item).items()}  # type: ignore[no-untyped-call]
        for item in containers
    ]
    ends = [
        number < starts and containers[number].get("restartPolicy") != "Always" for number in range(len(containers))
    ]
    result = []
    for resource in sorted({name for amount in amounts for name in amount} - set(plugged)):
        device_class = class_of_resource(resource, classes)
        if device_class is None:
            continue
        counts = [0 if ended else amount.get(resource, 0) for ended, amount in zip(ends, amounts, strict=True)]
        extra = max(
            (amount.get(resource, 0) - sum(counts[number:]) for number, amount in enumerate(amounts) if ends[number]),
            default=0,
        )
        parts = [
            ("init containers", extra),
            *((item["name"], count) for item, count in zip(containers, counts, strict=True)),
        ]
        result += [
            Request(name, (Wanted(name, device_class, count=count),), resource) for name, count in parts if count > 0
        ]
    return tuple(result)


def class_of_resource(resource: str, classes: Iterable[Object]) -> str | None:
    """DeviceClass that offers the extended resource; the newest one if there are several."""
    named = [item for item in classes if (item.get("spec") or {}).get("extendedResourceName") == resource]
    if named:
        named.sort(key=lambda item: item["metadata"]["name"])
        return str(max(named, key=lambda item: item["metadata"].get("creationTimestamp") or "")["metadata"]["name"])
    names = {item["metadata"]["name"] for item in classes}
    name = resource.removeprefix(EXTENDED_RESOURCE_PREFIX)
    return name if resource.startswith(EXTENDED_RESOURCE_PREFIX) and name in names else None


def _containers(pod: Object) -> list[Object]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _resources(container: Object) -> dict[str, Any]:
    """Extended resources that a container requests; native resources have no domain."""
    requests: Mapping[str, Any] = (container.get("resources") or {}).get("requests") or {}
    return {name: value for name, value in requests.items() if "/" in name}
