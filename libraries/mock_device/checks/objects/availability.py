"""Which published devices a claim could still get, as the scheduler counts them.

Source: the allocator of k8s.io/dynamic-resource-allocation v0.37
(``structured/internal/incubating``). CEL, constraints and consumable capacity
are not judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mock_device.checks.objects.claim_forms import Claim, Result, Wanted
from mock_device.checks.objects.slices import PublishedDevice, Taint, taint
from mock_device.names import DRIVER

Key = tuple[str, str]
"""Pool and device."""


def holders(claims: Iterable[Claim]) -> dict[Key, list[tuple[Claim, Result]]]:
    """Claims that have devices of this project's driver, by the device, with how they have it."""
    found: dict[Key, list[tuple[Claim, Result]]] = {}
    for claim in claims:
        for result in claim.own_results:
            found.setdefault(result.key, []).append((claim, result))
    return found


@dataclass(frozen=True)
class Availability:
    """Published devices with what keeps claims from them."""

    devices: tuple[PublishedDevice, ...]
    taken: frozenset[Key]
    """Devices that a claim has for itself; administrative access and shares leave a device to others."""
    short_of_counters: frozenset[Key]
    """Devices that need more of their pool's counters than its allocated devices leave, as a PF one of whose VFs is."""
    taints: Mapping[Key, tuple[Taint, ...]]
    """Of slices and of DeviceTaintRules."""

    def is_free(self, device: PublishedDevice, *, admin_access: bool = False) -> bool:
        """Whether no allocation keeps ``device`` from a claim, taints left aside."""
        key = device.pool, device.device
        return key not in self.short_of_counters and (admin_access or key not in self.taken)

    def taints_against(self, wanted: Wanted, device: PublishedDevice) -> list[Taint]:
        """Taints of ``device`` that keep it from ``wanted``."""
        return [taint for taint in self.taints[device.pool, device.device] if not wanted.tolerates(taint)]

    def is_usable(self, wanted: Wanted, device: PublishedDevice) -> bool:
        """Whether neither an allocation nor a taint keeps ``device`` from ``wanted``."""
        return self.is_free(device, admin_access=wanted.admin_access) and not self.taints_against(wanted, device)


@dataclass(frozen=True)
class TaintRule:
    """A DeviceTaintRule that selects devices of this project's driver. Fields that are None select all."""

    taint: Taint
    pool: str | None
    device: str | None

    def selects(self, device: PublishedDevice) -> bool:
        return self.pool in (None, device.pool) and self.device in (None, device.device)


def taint_rules(items: Iterable[Mapping[str, Any]]) -> list[TaintRule]:
    """DeviceTaintRules of the API's JSON that are not only for other drivers; without a selector one is for none."""
    rules = []
    for item in items:
        selector = item["spec"].get("deviceSelector")
        if selector is not None and selector.get("driver") in (None, DRIVER):
            found = taint(item["spec"]["taint"], item["metadata"]["name"])
            rules.append(TaintRule(found, selector.get("pool"), selector.get("device")))
    return rules


def of(published: Iterable[PublishedDevice], claims: Iterable[Claim], rules: Sequence[TaintRule] = ()) -> Availability:
    """What of ``published`` (devices of this project's driver) the allocations of ``claims`` and ``rules`` leave."""
    devices = tuple(published)
    held = holders(claims)
    taken = frozenset(key for key, users in held.items() if any(result.takes_device for _, result in users))
    # Administrative access consumes no counters, a share does.
    in_use = {key for key, users in held.items() if any(not result.admin_access for _, result in users)}
    used: dict[tuple[str, str], Decimal] = {}
    for device in devices:
        if (device.pool, device.device) in in_use:
            for name, amount in device.consumes.items():
                used[device.pool, name] = used.get((device.pool, name), Decimal(0)) + amount
    short = frozenset(
        (device.pool, device.device)
        for device in devices
        for name, amount in device.consumes.items()
        # One more share of a device consumes nothing more.
        if not (device.is_shared and (device.pool, device.device) in in_use)
        and amount > device.counters.get(name, Decimal(0)) - used.get((device.pool, name), Decimal(0))
    )
    taints = {
        (device.pool, device.device): (*device.taints, *(rule.taint for rule in rules if rule.selects(device)))
        for device in devices
    }
    return Availability(devices, taken, short, taints)
