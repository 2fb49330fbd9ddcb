"""Shares of devices that claims have (consumable capacity); no I/O.

API: resource.k8s.io/v1, ``shareID`` and ``consumedCapacity`` of an allocation's results. The scheduler keeps the sum
of the shares within the device's capacity. The driver checks that again and lets the kernel module enforce each
share: a share of the memory is the same share of the device's window, in one piece, and a number of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.configuration import Configuration
from mock_accel_dra.discovery import Device
from mock_accel_dra.quantities import quantity, value
from mock_accel_dra.window_shares import ATTRIBUTE, MOST_JOBS, PAGE

MEMORY, JOBS, COMPUTE = "memory", "jobs", "compute"
"""Names of capacities."""
CONFIGURATION = Configuration(mode="Shared")
"""Of every device that is shared: its limits are those of the shares."""
UNITS = 16
"""The smallest share of a device is one of this many parts."""


class ShareError(ValueError):
    """A share that the device cannot give; the message names the reason."""


@dataclass(frozen=True)
class Wanted:
    """What a claim has of a device, by its allocation."""

    id: str
    memory: int
    """Bytes of the device's memory."""
    jobs: int
    """Jobs that may wait at once; 0: no limit."""


@dataclass(frozen=True)
class Share:
    """What a claim has of a device, as the driver gives it."""

    id: str
    memory: int
    """Bytes of the device's memory."""
    offset: int = 0
    """Bytes from the start of the device's window."""
    size: int = 0
    """Bytes of the window; 0: the whole device, without limits."""
    jobs: int = 0
    """Jobs that may wait at once; 0: no limit."""

    @property
    def is_whole(self) -> bool:
        return self.size == 0

    def record(self) -> dict[str, Any]:
        """The share for the checkpoint; ``of_record`` reads it."""
        return {
            "id": self.id,
            "memory": self.memory,
            "offset": self.offset,
            "size": self.size,
            "jobs": self.jobs,
        }


def of_record(item: Mapping[str, Any]) -> Share:
    """A share from the checkpoint. Raises KeyError, ValueError."""
    numbers = {name: int(item[name]) for name in ("memory", "offset", "size", "jobs")}
    return Share(id=str(item["id"]), **numbers)


def cdi_name(device: str, share_id: str = "") -> str:
    """Name of a device, or of a share of it, as a CDI device: ``mock0``, ``mock0-<share id>``."""
    return f"{device}-{share_id}" if share_id else device


def device_of(name: str) -> str:
    """Name in sysfs of the device that the CDI device ``name`` is, or is a share of."""
    return name.partition("-")[0]


def can_share(device: Device) -> bool:
    """Whether ``device`` can be shared: its kernel module enforces shares, and its parts are whole pages."""
    return (
        not device.is_vf
        and device.shares is not None
        and bool(device.window_size)
        and device.memory % UNITS == 0
        and (device.window_size or 0) % (UNITS * PAGE) == 0
    )


def wanted(result: Mapping[str, Any], device: Device) -> Wanted | None:
    """The share of ``device`` in an allocation's ``result``; None if the device is not shared. Raises ShareError."""
    share_id = result.get("shareID")
    if not share_id:
        return None
    capacity = result.get("consumedCapacity") or {}
    consumed = {name.removeprefix(f"{DRIVER_NAME}/"): value(str(item)) for name, item in capacity.items()}
    if MEMORY not in consumed:
        raise ShareError(f"share {share_id} of device {device.name}: expected {MEMORY} in consumedCapacity, found none")
    limits = [int(consumed[JOBS])] if JOBS in consumed else []
    limits += [int(consumed[COMPUTE] * MOST_JOBS)] if COMPUTE in consumed else []
    return Wanted(str(share_id), int(consumed[MEMORY]), max(1, min(limits)) if limits else 0)


def found(result: Mapping[str, Any], device: Device, *, has_file: bool) -> Share | None:
    """The share of an allocation's ``result`` that was prepared, by what the kernel module has and by its CDI file."""
    try:
        item = wanted(result, device)
    except ShareError:
        return None
    if item is None:
        return None
    for there in device.shares or ():
        if there.id == item.id:
            return Share(item.id, item.memory, there.offset, there.size, there.jobs)
    return Share(item.id, item.memory) if has_file and item.memory == device.memory else None


def planned(
    device: Device, ours: Sequence[Wanted], others: Iterable[Share], before: Iterable[Share] = ()
) -> tuple[Share, ...]:
    """Places for the shares ``ours`` of a claim beside those of ``others``; a share in ``before`` keeps its place.

    Raises ShareError if the device has no room for them.
    """
    others = list(others)
    more, had = sum(item.memory for item in ours), sum(item.memory for item in others)
    if more + had > device.memory:
        raise ShareError(
            f"device {device.name} has {quantity(device.memory)} of memory, of which other claims have "
            f"{quantity(had)}; it cannot give {quantity(more)} more"
        )
    memory = {item.id: item.memory for item in ours}
    places = {share.id: share for share in before if share.memory == memory.get(share.id)}
    for item in ours:
        if item.id not in places:
            places[item.id] = _placed(device, item, [*others, *places.values()])
    return tuple(places[item.id] for item in ours)


def _placed(device: Device, item: Wanted, taken: Iterable[Share]) -> Share:
    if item.memory == device.memory:
        return Share(item.id, item.memory)
    if not can_share(device):
        raise ShareError(
            f"device {device.name} cannot be shared: expected a PF with attribute {ATTRIBUTE} whose window has {UNITS} "
            "parts in whole pages, as when it was published; is the kernel module of this node older?"
        )
    window = device.window_size or 0
    size = window * item.memory // device.memory
    if size == 0 or size % PAGE:
        raise ShareError(
            f"share {item.id} of device {device.name}: its {quantity(item.memory)} of memory are {size} bytes of the "
            f"window; expected a multiple of {PAGE}: request a multiple of {quantity(device.memory // UNITS)}"
        )
    holes = [(end - start, start) for start, end in _holes(window, taken) if end - start >= size]
    if not holes:
        raise ShareError(
            f"device {device.name} has no {quantity(size)} of its window in one piece, although enough is free; "
            "it has when another of its claims ends"
        )
    return Share(item.id, item.memory, min(holes)[1], size, item.jobs)


def _holes(window: int, taken: Iterable[Share]) -> Iterable[tuple[int, int]]:
    """Free pieces of a window, as start and end."""
    start = 0
    for share in sorted(taken, key=lambda share: share.offset):
        yield start, share.offset
        start = share.offset + share.size
    yield start, window
