"""Which published devices are still available to a claim, by the scheduler's rules.

Source: the allocator of k8s.io/dynamic-resource-allocation v0.37
(``structured/internal/incubating``). CEL, constraints and consumable capacity
are not evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mock_device.checks.objects.claim_forms import Claim, Result, Wanted
from mock_device.checks.objects.slices import PublishedDevice, PublishedId, Taint, taint
from mock_device.driver import current


def holders(claims: Iterable[Claim]) -> dict[PublishedId, list[tuple[Claim, Result]]]:
    """Claims that hold devices of this project's driver, with the allocation result, by device."""
    found: dict[PublishedId, list[tuple[Claim, Result]]] = {}
    for claim in claims:
        for result in claim.own_results:
            found.setdefault(result.published_id, []).append((claim, result))
    return found


@dataclass(frozen=True)
class Availability:
    """Published devices, and what prevents claims from getting them."""

    devices: tuple[PublishedDevice, ...]
    taken: frozenset[PublishedId]
    """Devices that a claim holds exclusively, that is, not with administrative access or as a share."""
    short_of_counters: frozenset[PublishedId]
    """Devices that need more of their pool's counters than are left, such as a PF with an allocated VF."""
    taints: Mapping[PublishedId, tuple[Taint, ...]]
    """Taints from slices and DeviceTaintRules."""

    def is_free(self, device: PublishedDevice, *, admin_access: bool = False) -> bool:
        """Whether ``device`` is unallocated; taints are ignored."""
        key = device.published_id
        return key not in self.short_of_counters and (admin_access or key not in self.taken)

    def taints_against(self, wanted: Wanted, device: PublishedDevice) -> list[Taint]:
        """Taints of ``device`` that ``wanted`` does not tolerate."""
        return [taint for taint in self.taints[device.published_id] if not wanted.tolerates(taint)]

    def is_usable(self, wanted: Wanted, device: PublishedDevice) -> bool:
        """Whether ``wanted`` can get ``device``: it is unallocated and has no taint that is not tolerated."""
        return self.is_free(device, admin_access=wanted.admin_access) and not self.taints_against(wanted, device)


@dataclass(frozen=True)
class TaintRule:
    """A DeviceTaintRule that selects devices of this project's driver; None matches everything."""

    taint: Taint
    pool: str | None
    device: str | None

    def selects(self, device: PublishedDevice) -> bool:
        return self.pool in (None, device.pool) and self.device in (None, device.device)


def taint_rules(items: Iterable[Mapping[str, Any]]) -> list[TaintRule]:
    """DeviceTaintRules (API's JSON) that can match this driver's devices; a rule without a selector matches none."""
    rules = []
    for item in items:
        selector = item["spec"].get("deviceSelector")
        if selector is not None and selector.get("driver") in (None, current.driver().name):
            found = taint(item["spec"]["taint"], item["metadata"]["name"])
            rules.append(TaintRule(found, selector.get("pool"), selector.get("device")))
    return rules


def of(published: Iterable[PublishedDevice], claims: Iterable[Claim], rules: Sequence[TaintRule] = ()) -> Availability:
    """Availability of ``published`` (devices of this project's driver), given the allocations of ``claims``."""
    devices = tuple(published)
    held = holders(claims)
    taken = frozenset(key for key, users in held.items() if any(result.takes_device for _, result in users))
    # Administrative access consumes no counters, a share does.
    in_use = {key for key, users in held.items() if any(not result.admin_access for _, result in users)}
    used: dict[tuple[str, str], Decimal] = {}
    for device in devices:
        if device.published_id in in_use:
            for name, amount in device.consumes.items():
                used[device.pool, name] = used.get((device.pool, name), Decimal(0)) + amount
    short = frozenset(
        device.published_id
        for device in devices
        for name, amount in device.consumes.items()
        # Another share of a device consumes no more counters.
        if not (device.is_shared and device.published_id in in_use)
        and amount > device.counters.get(name, Decimal(0)) - used.get((device.pool, name), Decimal(0))
    )
    taints = {
        device.published_id: (*device.taints, *(rule.taint for rule in rules if rule.selects(device)))
        for device in devices
    }
    return Availability(devices, taken, short, taints)
