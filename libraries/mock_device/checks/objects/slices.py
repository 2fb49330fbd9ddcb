"""Devices as ResourceSlices publish them (resource.k8s.io/v1): read, awaited, and changed without the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.client import ApiClient
from kubernetes.utils.quantity import parse_quantity

from mock_device.checks.errors import CheckError
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.kube import kubeclient
from mock_device.topology import DeviceId

STANDARD_NUMA_NODE = "resource.kubernetes.io/numaNode"

Value = str | int | bool | tuple[str | int | bool, ...] | None
"""Value of an attribute; a tuple of values if the feature gate DRAListTypeAttributes is on."""
_KEEPS_OFF = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True)
class Taint:
    """A taint of a device."""

    key: str
    value: str
    effect: str
    rule: str = ""
    """Name of the DeviceTaintRule that adds it; empty if the driver publishes it."""

    @property
    def keeps_off(self) -> bool:
        """Whether the taint makes the device unavailable to requests without a toleration; unknown effects do not."""
        return self.effect in _KEEPS_OFF

    def __str__(self) -> str:
        by_rule = f" (DeviceTaintRule {self.rule})" if self.rule else ""
        return f"{self.key}={self.value}:{self.effect}{by_rule}"


class PublishedId(NamedTuple):
    """Which device of the driver, as the API names it in slices and allocations."""

    pool: str
    device: str
    """A DNS label: ``mock0-vf0``."""

    def __str__(self) -> str:
        return f"{self.pool} {self.device}"


@dataclass(frozen=True)
class PublishedDevice:
    """One device of a slice."""

    node: str
    pool: str
    device: str
    """Name in the slice, a DNS label such as ``mock0-vf0``."""
    name: str
    """Name in sysfs, such as ``mock0_vf0``; else derived from the name in the slice."""
    slice_name: str
    attributes: Mapping[str, Value]
    """Values by qualified name (``DOMAIN/NAME``)."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """Quantities by qualified name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the slice."""
    taints: tuple[Taint, ...] = ()
    is_shared: bool = False
    """Whether several claims can share it (``allowMultipleAllocations``)."""
    consumes: Mapping[str, Decimal] = field(default_factory=dict)
    """Amounts that it consumes of its pool's counters, by ``SET/COUNTER``."""
    counters: Mapping[str, Decimal] = field(default_factory=dict)
    """Total amounts of those counters in its pool."""

    @property
    def id(self) -> DeviceId:
        """Which device of the cluster it is."""
        return DeviceId(self.node, self.name)

    @property
    def published_id(self) -> PublishedId:
        """Which device claims and rules take it for."""
        return PublishedId(self.pool, self.device)

    def attribute(self, name: str) -> Value:
        """Value of an attribute, None if it is missing; a name without a domain is in the driver's domain."""
        return self.attributes.get(qualified(name))

    def meaning(self, meaning: str) -> Value:
        """Value of the attribute that the driver's description has for ``meaning`` (``pci-address``); else None."""
        return self.attributes.get(current.driver().attributes.get(meaning, ""))

    @property
    def numa_node(self) -> int | None:
        """NUMA node that the driver publishes; None if it publishes none."""
        value = self.meaning("numa-node")
        return value if isinstance(value, int) else None


def qualified(name: str) -> str:
    """Add the driver's domain to ``name`` if it has no domain."""
    return current.driver().qualified(name)


def parse(items: Iterable[Mapping[str, Any]]) -> list[PublishedDevice]:
    """Devices of the driver in ``items``, which are ResourceSlices (API's JSON)."""
    name = current.driver().name
    own = [item for item in items if item["spec"]["driver"] == name]
    counters: dict[str, dict[str, Decimal]] = {}
    for item in own:
        counters.setdefault(item["spec"]["pool"]["name"], {}).update(
            _counters(item["spec"].get("sharedCounters"), "name")
        )
    return [
        _device(item, device, counters[item["spec"]["pool"]["name"]])
        for item in own
        for device in item["spec"].get("devices") or []
    ]


def _device(item: Mapping[str, Any], device: Mapping[str, Any], counters: Mapping[str, Decimal]) -> PublishedDevice:
    spec, metadata = item["spec"], item["metadata"]
    labels = metadata.get("labels") or {}
    return PublishedDevice(
        node=spec.get("nodeName", ""),
        pool=spec["pool"]["name"],
        device=device["name"],
        name=current.name_in_sysfs(item, device),
        slice_name=metadata["name"],
        attributes={qualified(name): _value(value) for name, value in (device.get("attributes") or {}).items()},
        capacity={qualified(name): str(value["value"]) for name, value in (device.get("capacity") or {}).items()},
        labels=labels,
        taints=tuple(taint(entry) for entry in device.get("taints") or []),
        is_shared=bool(device.get("allowMultipleAllocations")),
        consumes=(consumes := _counters(device.get("consumesCounters"), "counterSet")),
        counters={name: value for name, value in counters.items() if name in consumes},
    )


def _value(attribute: Mapping[str, Any]) -> Value:
    """Value of an attribute, which has a single field named after its type."""
    found = next(iter(attribute.values()), None)
    return tuple(found) if isinstance(found, list) else found


def taint(item: Mapping[str, Any], rule: str = "") -> Taint:
    """Parse a taint (API's JSON); ``rule`` is the DeviceTaintRule that adds it."""
    return Taint(item["key"], item.get("value") or "", item["effect"], rule)


def _counters(sets: Iterable[Mapping[str, Any]] | None, named_by: str) -> dict[str, Decimal]:
    return {
        f"{counters[named_by]}/{name}": parse_quantity(counter["value"])  # type: ignore[no-untyped-call]
        for counters in sets or ()
        for name, counter in counters["counters"].items()
    }


def incomplete_pools(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pools of the driver with missing slices or mixed generations, which the scheduler ignores."""
    pools: dict[str, list[Mapping[str, Any]]] = {}
    driver = current.driver().name
    for item in items:
        if item["spec"]["driver"] == driver:
            pools.setdefault(item["spec"]["pool"]["name"], []).append(item["spec"]["pool"])
    complaints = []
    for name, parts in sorted(pools.items()):
        generations = sorted({part["generation"] for part in parts})
        count = max(part["resourceSliceCount"] for part in parts)
        if len(generations) > 1 or len(parts) != count:
            complaints.append(
                f"pool {name}: expected {count} slices of one generation, found {len(parts)} "
                f"of generations {', '.join(map(str, generations))}"
            )
    return complaints


def published(api: ApiClient) -> list[PublishedDevice]:
    """All devices that the driver's ResourceSlices publish."""
    found = client.ResourceV1Api(api).list_resource_slice()
    return parse(kubeclient.as_json(api, item) for item in found.items)


def count_slices(api: ApiClient, label_selector: str) -> int:
    """How many ResourceSlices match ``label_selector``."""
    lister = client.ResourceV1Api(api).list_resource_slice
    return len(lister(label_selector=label_selector).items)


def wait_published(
    api: ApiClient, complaints: Callable[[list[PublishedDevice]], list[str]], timeout: timedelta, expected: str
) -> None:
    """Wait until all pools are complete and ``complaints(published devices)`` is empty. CheckError has the rest."""
    last: list[str] = []

    def done(found: Mapping[str, Any]) -> bool:
        items = [kubeclient.as_json(api, item) for item in found.values()]
        last[:] = incomplete_pools(items) + complaints(parse(items))
        return not last

    seconds = timeouts.seconds(timeout)
    kubeclient.watch_until(client.ResourceV1Api(api).list_resource_slice, done, seconds)
    if last:
        raise CheckError(f"expected {expected} within {seconds:.0f} s:\n" + "\n".join(last))


def slice_of(published: Iterable[PublishedDevice], device: DeviceId) -> str:
    """Name of the only ResourceSlice of ``device``. Raises CheckError if there is none or more than one."""
    names = [item.slice_name for item in published if item.id == device]
    if len(names) != 1:
        raise CheckError(f"{device}: expected one ResourceSlice, found {', '.join(names) or 'none'}")
    return names[0]


def delete_slice(api: ApiClient, name: str) -> None:
    """Delete a ResourceSlice, without the driver."""
    client.ResourceV1Api(api).delete_resource_slice(name)


def change_slice(api: ApiClient, name: str) -> None:
    """Change the UUID of the devices of a ResourceSlice, without the driver."""
    resource = client.ResourceV1Api(api)
    item: Any = resource.read_resource_slice(name)
    driver = current.driver()
    uuid = driver.attributes["uuid"].removeprefix(f"{driver.name}/")
    for device in item.spec.devices:
        device.attributes[uuid].string = "CHANGED-BY-A-TEST"
    resource.replace_resource_slice(name, item)
