"""ResourceClaims (resource.k8s.io/v1): what tests request, and what the scheduler allocated.

Claims that are not from the tests may have any form: see ``checks.objects.claim_forms``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import availability, claim_forms
from mock_device.checks.objects.claim_forms import Toleration
from mock_device.checks.objects.slices import PublishedDevice, Value, qualified
from mock_device.driver import current
from mock_device.topology import DeviceId

Object = dict[str, Any]


class DeviceClass(Enum):
    """The driver's DeviceClasses, by what they select."""

    PF = "pf"
    """All devices, if the driver has no class of PFs."""
    VF = "vf"

    @property
    def object_name(self) -> str:
        """Name of the driver's DeviceClass. Raises StepError if it has none."""
        return current.driver().device_class(self.value)


@dataclass(frozen=True)
class DeviceRequest:
    """One request of a claim: ``count`` devices of a class that meet all CEL selectors."""

    name: str
    count: int = 1
    device_class: DeviceClass = DeviceClass.PF
    selectors: tuple[str, ...] = ()
    admin_access: bool = False
    """Whether devices of other claims are acceptable, too; the namespace must allow it."""
    every: bool = False
    """Whether all devices of a node that meet the selectors are wanted (``allocationMode: All``)."""
    tolerations: tuple[Toleration, ...] = ()

    def __str__(self) -> str:
        where = f" where {' and '.join(self.selectors)}" if self.selectors else ""
        admin = " (adminAccess)" if self.admin_access else ""
        return f"{'all' if self.every else self.count} of {self.device_class.object_name}{admin}{where}"


@dataclass(frozen=True)
class AlternativeRequests:
    """A request that is met by the first of ``alternatives`` with enough devices (``firstAvailable``)."""

    name: str
    alternatives: tuple[DeviceRequest, ...]

    def __str__(self) -> str:
        return " or else ".join(str(alternative) for alternative in self.alternatives)


Request = DeviceRequest | AlternativeRequests


@dataclass(frozen=True)
class AllocatedDevice:
    """A device that the scheduler allocated to a claim."""

    claim: str
    request: str
    published: PublishedDevice
    alternative: str = ""
    """Name of the chosen alternative, for a request with alternatives."""
    is_exclusive: bool = True
    """False with administrative access or for a share: other claims can then get the device, too."""
    admin_access: bool = False
    """With administrative access the driver does not touch the device's status register."""

    @property
    def node(self) -> str:
        return self.published.node

    @property
    def name(self) -> str:
        """Name in sysfs."""
        return self.published.name

    @property
    def id(self) -> DeviceId:
        return self.published.id

    def __str__(self) -> str:
        return f"{self.id} ({self.published.meaning('pci-address')})"


def numa_selector(numa_node: int) -> str:
    """CEL expression that selects the devices of a NUMA node. Raises StepError if the driver does not publish it."""
    return f"{current.driver().in_cel('numa-node')} == {numa_node}"


def build(
    name: str,
    requests: Sequence[Request],
    match_attribute: str | None,
    labels: Mapping[str, str],
    distinct_attribute: str | None = None,
) -> Object:
    """A ResourceClaim (API's JSON).

    Devices of all requests must have the same value of ``match_attribute``, and different values of
    ``distinct_attribute``.
    """
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": _spec(requests, match_attribute, distinct_attribute),
    }


def build_template(
    name: str, requests: Sequence[Request], match_attribute: str | None, labels: Mapping[str, str]
) -> Object:
    """A ResourceClaimTemplate (API's JSON); its claims get the labels, too."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"metadata": {"labels": dict(labels)}, "spec": _spec(requests, match_attribute)},
    }


def _spec(requests: Sequence[Request], match_attribute: str | None, distinct_attribute: str | None = None) -> Object:
    devices: Object = {"requests": [_request(request) for request in requests]}
    wanted = {"matchAttribute": match_attribute, "distinctAttribute": distinct_attribute}
    names = [request.name for request in requests]
    constraints = [{"requests": names, kind: qualified(name)} for kind, name in wanted.items() if name]
    if constraints:
        devices["constraints"] = constraints
    return {"devices": devices}


def _request(request: Request) -> Object:
    if isinstance(request, AlternativeRequests):
        alternatives = [{"name": item.name, **_wanted(item)} for item in request.alternatives]
        return {"name": request.name, "firstAvailable": alternatives}
    return {"name": request.name, "exactly": _wanted(request)}


def _wanted(request: DeviceRequest) -> Object:
    wanted: Object = {"deviceClassName": request.device_class.object_name}
    wanted |= {"allocationMode": "All"} if request.every else {"allocationMode": "ExactCount", "count": request.count}
    if request.tolerations:
        wanted["tolerations"] = [_toleration(item) for item in request.tolerations]
    if request.admin_access:
        wanted["adminAccess"] = True
    if request.selectors:
        wanted["selectors"] = [{"cel": {"expression": expression}} for expression in request.selectors]
    return wanted


def _toleration(toleration: Toleration) -> Object:
    fields = {"key": toleration.key, "value": toleration.value, "effect": toleration.effect}
    seconds = {} if toleration.seconds is None else {"tolerationSeconds": toleration.seconds}
    return {"operator": toleration.operator, **{name: text for name, text in fields.items() if text}, **seconds}


class NotPublishedError(CheckError):
    """No ResourceSlice publishes a device that a claim has."""


def allocated(claim: Mapping[str, Any], published: Iterable[PublishedDevice]) -> list[AllocatedDevice]:
    """Devices of the driver that are allocated to ``claim``; none while it is pending.

    Raises NotPublishedError if no ResourceSlice publishes one of the devices.
    """
    found = claim_forms.parse(claim)
    known = {device.published_id: device for device in published}
    result = []
    for item in found.own_results:
        device = known.get(item.published_id)
        if device is None:
            raise NotPublishedError(
                f"claim {found.name!r} has device {item.device} of pool {item.pool}, "
                "but no ResourceSlice publishes it; "
                f"slices have {', '.join(sorted(f'{d.pool}: {d.device}' for d in known.values())) or 'none'}"
            )
        allocated_device = AllocatedDevice(
            found.name, item.request, device, item.alternative, item.takes_device, item.admin_access
        )
        result.append(allocated_device)
    return result


def allocation_complaints(claim: Mapping[str, Any]) -> list[str]:
    """Allocations and reservations of ``claim``, a message each; none if it is unallocated and not reserved."""
    found = claim_forms.parse(claim)
    users = [f"{user.resource} {user.name}" for user in found.reserved_for]
    return ([str(found)] if found.is_allocated else []) + ([f"it is reserved for {', '.join(users)}"] if users else [])


def describe(claim: Mapping[str, Any]) -> str:
    """What a claim requests and what is allocated to it, for a message."""
    return str(claim_forms.parse(claim))


def free(published: Iterable[PublishedDevice], claims: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, Value]]:
    """Number of published PFs that a claim can get, by node and NUMA node; 0 if all are allocated.

    All devices, if the driver does not say which are PFs.
    """
    found = availability.of(published, claim_forms.parse_all(claims))
    counts: Counter[tuple[str, Value]] = Counter()
    for device in found.devices:
        if device.meaning("kind") in ("pf", None):
            counts[device.node, device.numa_node] += found.is_free(device)
    return counts


def describe_free(counts: Counter[tuple[str, Value]]) -> str:
    """Describe the numbers of free devices, for a message."""
    words = [
        f"{node} NUMA node {'unknown' if numa is None else numa}: {count}"
        for (node, numa), count in sorted(counts.items(), key=lambda item: (item[0][0], str(item[0][1])))
    ]
    return f"free PFs: {', '.join(words)}" if words else "no device is published"
