"""Why the scheduler finds no devices for a pod, as far as that follows from the API's objects.

Only devices of this project's driver are evaluated, for requests whose
DeviceClass selects that driver. A cause is reported if no node can meet the
request even if everything that is not evaluated here (CEL other than
comparisons, consumable capacity) were in the pod's favour. In all other cases
only the scheduler's message is shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mock_device.checks.objects.availability import Availability
from mock_device.checks.objects.claim_forms import Claim, Constraint, Request, Wanted
from mock_device.checks.objects.slices import PublishedDevice, PublishedId
from mock_device.diagnosis import selectors
from mock_device.diagnosis.discovery_steps import DEPLOY
from mock_device.diagnosis.selectors import Selectors
from mock_device.driver import current

CLASSES = "lab kubectl get deviceclasses"
DEVICES_THERE_ARE = "lab devices"
WHO_HAS_THEM = "lab slices"
TAINT_RULES = "lab kubectl get devicetaintrules -o yaml"
AGENTS_SAY = "lab logs --component node-agent --severity warning"
_CANNOT_ALLOCATE = re.compile(
    r"0/(\d+) nodes are available: (\d+) cannot allocate all claims"
    r"(?:, (\d+) node\(s\) didn't match Pod's node affinity/selector)?\."
)
"""The scheduler's message if, on each node that the pod may use, only devices are lacking."""
_CEL_FAILS = re.compile(r"CEL \w+ error")
_FAILING = re.compile(r"(claim|class) (\S+): selector #(\d+)")
_ATTRIBUTE = re.compile(r"""device\.attributes\[["']([^"']+)["']\]\.(\w+)""")
_SHOWN_VALUES = 6

Cause = tuple[str, str]
"""What cannot be met, and a command that shows more."""


@dataclass(frozen=True)
class Supply:
    """What the cluster offers to a pod."""

    available: Availability
    classes: Mapping[str, Mapping[str, Any]]
    """DeviceClasses (API's JSON) by name."""
    node: str | None = None
    """The only node that the pod may use; None for any."""


@dataclass(frozen=True)
class _Demand:
    """A request's ``exactly``, or one of its alternatives, with its candidate devices."""

    wanted: Wanted
    selectors: Selectors
    of_class: tuple[PublishedDevice, ...]
    """Devices of the class on all nodes that the pod may use."""
    matching: tuple[PublishedDevice, ...]
    """Those that meet the understood parts of the request's selectors."""
    usable: tuple[PublishedDevice, ...]
    """Those of ``matching`` that are neither allocated nor tainted."""
    is_judged: bool
    """Whether all selectors, of request and class, are fully understood."""


def of_pod(claims: Sequence[Claim], supply: Supply, reason: str) -> Iterator[Cause]:
    """Causes why the pending claims of a pod get no devices; ``reason`` is the scheduler's message."""
    pending = [claim for claim in claims if not claim.is_allocated]
    for claim in pending:
        for request in claim.requests:
            yield from _of_request(claim, request, supply, reason)
    for claim in pending:
        for constraint in claim.constraints:
            yield from _of_constraint(claim, constraint, supply)
    yield from _of_sums(pending, supply)
    yield from _of_selectors_by_elimination(pending, supply, reason)


def _of_request(claim: Claim, request: Request, supply: Supply, reason: str) -> Iterator[Cause]:
    """The causes of all alternatives; none if one of the alternatives may be met."""
    found = [_of_wanted(wanted, claim, supply, reason) for wanted in request.alternatives]
    if found and (causes := [cause for cause in found if cause]) and len(causes) == len(found):
        yield f"{_asked(claim, request)}: {'; or else '.join(text for text, _ in causes)}", causes[0][1]


def _of_wanted(wanted: Wanted, claim: Claim, supply: Supply, reason: str) -> Cause | None:
    if wanted.device_class not in supply.classes:
        known = ", ".join(supply.classes) or "none"
        is_ours = wanted.device_class in current.driver().device_classes.values()
        return f"there is no DeviceClass {wanted.device_class!r}; available: {known}", DEPLOY if is_ours else CLASSES
    demand = _demand(wanted, supply)
    if demand is None:
        return None
    if demand.selectors and _cel_fails(claim, wanted, reason):
        return (
            f"CEL {demand.selectors} fails for a device{_actual(demand.selectors, demand.of_class)}",
            DEVICES_THERE_ARE,
        )
    if wanted.is_all:
        return _of_all(demand, supply)
    if not wanted.is_count:
        return None
    usable_of_class = [device for device in demand.of_class if supply.available.is_usable(wanted, device)]
    if _most(usable_of_class) < wanted.count:
        return _too_few(demand, supply, _most(usable_of_class))
    if _most(demand.usable) < wanted.count:
        how_many = (
            f"is met by fewer than {wanted.count} of the {len(usable_of_class)} free devices"
            if len(demand.usable) < wanted.count
            else f"is met by at most {_most(demand.usable)} free devices of one node, {wanted.count} are asked"
        )
        return f"CEL {demand.selectors} {how_many}{_actual(demand.selectors, usable_of_class)}", DEVICES_THERE_ARE
    return None


def _too_few(demand: _Demand, supply: Supply, most: int) -> Cause:
    wanted, available = demand.wanted, supply.available
    of_class = [device for device in available.devices if _class_of(wanted, supply).may_select(device)]
    text = (
        f"{wanted.count} of {wanted.device_class} on one node, at most {most} are free there, "
        f"of {len(of_class)} published"
    )
    free = [device for device in demand.of_class if available.is_free(device, admin_access=wanted.admin_access)]
    if _most(free) < wanted.count:
        return text, WHO_HAS_THEM
    taints, remedy = _taints(wanted, free, available)
    return f"{text}; {taints}", remedy


def _of_all(demand: _Demand, supply: Supply) -> Cause | None:
    wanted, available = demand.wanted, supply.available
    if not demand.matching:
        where = f" where {demand.selectors}" if demand.selectors else ""
        actual = _actual(demand.selectors, demand.of_class)
        return f"all of {wanted.device_class}{where}: no such device is published{actual}", DEVICES_THERE_ARE
    if not demand.is_judged:
        return None
    nodes = sorted({device.node for device in demand.matching})
    lacking = {
        node: [device for device in demand.matching if device.node == node and not available.is_usable(wanted, device)]
        for node in nodes
    }
    if not all(lacking.values()):
        return None
    listing = "; ".join(f"{node}: {', '.join(device.name for device in found)}" for node, found in lacking.items())
    text = f"all of {wanted.device_class} on one node: on each node some are not free ({listing})"
    taken = [
        device
        for found in lacking.values()
        for device in found
        if not available.is_free(device, admin_access=wanted.admin_access)
    ]
    if taken:
        return text, WHO_HAS_THEM
    taints, remedy = _taints(wanted, demand.matching, available)
    return f"{text}; {taints}", remedy


def _taints(wanted: Wanted, devices: Sequence[PublishedDevice], available: Availability) -> Cause:
    """Taints of ``devices`` that the request does not tolerate, and a command that shows their origin."""
    found = [taints for device in devices if (taints := available.taints_against(wanted, device))]
    taints = sorted({taint for of_device in found for taint in of_device}, key=str)
    words = f"{len(found)} have a taint that is not tolerated: {', '.join(map(str, taints))}"
    return words, TAINT_RULES if any(taint.rule for taint in taints) else AGENTS_SAY


def _of_constraint(claim: Claim, constraint: Constraint, supply: Supply) -> Iterator[Cause]:
    """A cause if no node has enough devices with equal, or distinct, values of the constraint's attribute."""
    demands: list[_Demand] = []
    if not constraint.attribute:
        return
    for request in claim.requests:
        concerned = [wanted for wanted in request.alternatives if constraint.concerns(wanted)]
        if not concerned:
            continue
        demand = _demand(concerned[0], supply) if len(request.alternatives) == 1 else None
        if demand is None or not demand.wanted.is_count or demand.wanted.derives_attributes:
            return
        demands.append(demand)
    values = [device.attribute(constraint.attribute) for demand in demands for device in demand.usable]
    if any(isinstance(value, tuple) for value in values):  # list values match if they overlap
        return
    nodes = {device.node for demand in demands for device in demand.usable}
    meets = _can_differ if constraint.distinct else _can_be_same
    if demands and not any(meets(demands, node, constraint.attribute) for node in nodes):
        yield f"{claim}; no node has enough free devices with {constraint}", WHO_HAS_THEM


def _can_be_same(demands: Sequence[_Demand], node: str, attribute: str) -> bool:
    return any(_may_be_enough(demands, node, attribute, value) for value in _values_on(demands, node, attribute))


def _can_differ(demands: Sequence[_Demand], node: str, attribute: str) -> bool:
    return len(_values_on(demands, node, attribute)) >= sum(demand.wanted.count for demand in demands)


def _values_on(demands: Sequence[_Demand], node: str, attribute: str) -> set[str]:
    """Values of ``attribute`` on usable devices of ``node``."""
    return {
        str(value)
        for demand in demands
        for device in demand.usable
        if device.node == node and (value := device.attribute(attribute)) is not None
    }


def _may_be_enough(demands: Sequence[_Demand], node: str, attribute: str, value: str) -> bool:
    """Whether there are enough devices with ``value`` for each demand, and for all demands together."""
    alone, own, total = True, set[PublishedId](), 0
    for demand in demands:
        found = {
            device.published_id
            for device in demand.usable
            if device.node == node and str(device.attribute(attribute)) == value
        }
        alone = alone and len(found) >= demand.wanted.count
        if not demand.wanted.admin_access:
            own |= found
            total += demand.wanted.count
    return alone and len(own) >= total


def _of_sums(pending: Sequence[Claim], supply: Supply) -> Iterator[Cause]:
    """Requests of one DeviceClass that could each be met alone, but not together."""
    demands: dict[str, list[tuple[Claim, Request, _Demand]]] = {}
    for claim in pending:
        for request in claim.requests:
            wanted = request.alternatives[0] if len(request.alternatives) == 1 else None
            if wanted is None or not wanted.is_count or wanted.admin_access:
                continue
            if demand := _demand(wanted, supply):
                demands.setdefault(wanted.device_class, []).append((claim, request, demand))
    for name, members in demands.items():
        total = sum(demand.wanted.count for _, _, demand in members)
        usable = {device.published_id: device for _, _, demand in members for device in demand.usable}
        if len(members) > 1 and (most := _most(usable.values())) < total:
            asked = " and ".join(_asked(claim, request) for claim, request, _ in members)
            yield f"{asked}: together {total} of {name} on one node, at most {most} are free there", WHO_HAS_THEM


def _of_selectors_by_elimination(pending: Sequence[Claim], supply: Supply, reason: str) -> Iterator[Cause]:
    """The CEL of a pod's only request, if the scheduler cannot allocate although there are enough devices."""
    counts = _CANNOT_ALLOCATE.match(reason)
    if counts is None or int(counts[1]) != int(counts[2]) + int(counts[3] or 0):
        return
    if len(pending) != 1 or len(pending[0].requests) != 1 or pending[0].constraints:
        return
    claim, request = pending[0], pending[0].requests[0]
    demand = _demand(request.alternatives[0], supply) if len(request.alternatives) == 1 else None
    if demand is None or not demand.selectors.rest or _class_of(demand.wanted, supply).rest:
        return
    excluding = demand.wanted.count > 1 and any(device.consumes for device in demand.usable)
    if not demand.wanted.is_count or demand.wanted.capacity or excluding:
        return
    text = (
        f"{_asked(claim, request)}: CEL {demand.selectors} is met by fewer than {demand.wanted.count} "
        f"of the {len(demand.usable)} free devices{_actual(demand.selectors, demand.usable)}"
    )
    yield text, DEVICES_THERE_ARE


def _demand(wanted: Wanted, supply: Supply) -> _Demand | None:
    """Candidate devices for ``wanted``; None if its class may select devices of other drivers."""
    if wanted.device_class not in supply.classes:
        return None
    of_class, own = _class_of(wanted, supply), selectors.parse(wanted.selectors)
    if of_class.driver != current.driver().name:
        return None
    devices = tuple(
        device
        for device in supply.available.devices
        if supply.node in (None, device.node) and of_class.may_select(device)
    )
    if any(device.is_shared for device in devices):  # one device may serve several requests
        return None
    matching = tuple(device for device in devices if own.may_select(device))
    usable = tuple(device for device in matching if supply.available.is_usable(wanted, device))
    return _Demand(wanted, own, devices, matching, usable, not (of_class.rest or own.rest))


def _class_of(wanted: Wanted, supply: Supply) -> Selectors:
    return selectors.of_class(supply.classes[wanted.device_class])


def _most(devices: Iterable[PublishedDevice]) -> int:
    """Number of devices on the node with the most devices."""
    return max(Counter(device.node for device in devices).values(), default=0)


def _cel_fails(claim: Claim, wanted: Wanted, reason: str) -> bool:
    """Whether the scheduler reports an error in a selector of ``wanted``, or in one that it does not name."""
    if not _CEL_FAILS.search(reason):
        return False
    named = _FAILING.findall(reason)
    return not named or any(
        (kind, name) == ("claim", f"{claim.namespace}/{claim.name}") and int(number) < len(wanted.selectors)
        for kind, name, number in named
    )


def _asked(claim: Claim, request: Request) -> str:
    if request.resource:
        return f"extended resource {request.resource} of {request.name}"
    return f"claim {claim.namespace}/{claim.name}, request {request.name!r}"


def _actual(found: Selectors, devices: Sequence[PublishedDevice]) -> str:
    """Values that ``devices`` have for the attributes in the CEL expressions, for a message."""
    values = "; ".join(filter(None, (_values(expression, devices) for expression in found.expressions)))
    return f" ({values})" if values else ""


def _values(expression: str, devices: Sequence[PublishedDevice]) -> str:
    words = []
    for domain, name in dict.fromkeys(_ATTRIBUTE.findall(expression)):
        values = sorted({str(value) for item in devices if (value := item.attribute(f"{domain}/{name}")) is not None})
        if not devices:
            continue
        if not values:
            words.append(f"no device has attribute {name}")
            continue
        more = f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
        words.append(f"their {name}: {', '.join(values[:_SHOWN_VALUES])}{more}")
    return ", ".join(words)
