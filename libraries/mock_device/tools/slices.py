"""``lab slices``: published devices and the claims that hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import availability, claim_forms, kube
from mock_device.checks.objects import slices as published_slices
from mock_device.checks.objects.slices import PublishedDevice
from mock_device.lab.base.tables import Table
from mock_device.topology import DeviceId, Topology

_HEADINGS = ("name", "node", "device", "numa", "pci", "allocated to")


@dataclass(frozen=True)
class Holder:
    """A claim that holds a device, with the pods for which it is reserved."""

    claim: str
    """``namespace/name``."""
    pods: tuple[str, ...]
    how: str = ""
    """How the claim shares the device: by administrative access, or as a share with what it consumes; else empty."""

    def __str__(self) -> str:
        how = f" ({self.how})" if self.how else ""
        return f"{self.claim}{how} → {', '.join(self.pods) or 'no pod'}"


@dataclass(frozen=True)
class SliceRow:
    """A published device."""

    name: str
    """Name of the ResourceSlice."""
    node: str
    device: str
    """Name in sysfs."""
    numa_node: int | None
    pci: str
    holders: tuple[Holder, ...]
    """More than one only with administrative access or shares; empty if the device is unallocated."""
    is_free: bool
    """Whether a claim could get it: no claim holds it exclusively, and its counters are not used up."""

    @property
    def id(self) -> DeviceId:
        return DeviceId(self.node, self.device)


def rows(
    published: Iterable[PublishedDevice], everything: Iterable[Mapping[str, Any]], node: str | None = None
) -> list[SliceRow]:
    """Published devices (of ``node``) with the claims among ``everything`` (API's JSON) that hold them."""
    claims = claim_forms.parse_all(everything)
    available = availability.of(published, claims)
    holders = {
        key: tuple(Holder(f"{claim.namespace}/{claim.name}", claim.pods, result.what) for claim, result in users)
        for key, users in availability.holders(claims).items()
    }
    return [
        SliceRow(
            name=device.slice_name,
            node=device.node,
            device=device.name,
            numa_node=device.numa_node,
            pci=str(device.meaning("pci-address") or "-"),
            holders=holders.get(device.published_id, ()),
            is_free=available.is_free(device),
        )
        for device in sorted(available.devices, key=lambda device: (device.node, str(device.meaning("pci-address"))))
        if node in (None, device.node)
    ]


def read(session: Session, node: str | None = None) -> list[SliceRow]:
    """Published devices of the cluster or of ``node``. Raises KeyError with the names of all nodes."""
    if node is not None:
        session.topology.node(node)
    return rows(published_slices.published(session.api), kube.all_claims(session.api), node)


def complaints(topology: Topology, rows: Collection[SliceRow], pod: str, expected: Collection[DeviceId]) -> list[str]:
    """PFs without exactly one row, and whether ``pod`` is not at exactly the ``expected`` devices."""
    shown = Counter(row.id for row in rows)
    found = [
        f"{key}: expected one line, found {shown[key]}"
        for key, function in topology.devices.items()
        if not function.is_vf and shown[key] != 1
    ]
    held = {row.id for row in rows for holder in row.holders if pod in holder.pods}
    if held != set(expected):
        wanted, really = (", ".join(map(str, sorted(keys))) or "none" for keys in (expected, held))
        found.append(f"pod {pod}: expected it at {wanted}, found it at {really}")
    return found


def table(rows: Iterable[SliceRow]) -> Table:
    """One row per published device."""
    return Table(
        _HEADINGS,
        [
            (
                row.name,
                row.node,
                row.device,
                "-" if row.numa_node is None else str(row.numa_node),
                row.pci,
                "; ".join(map(str, row.holders)) or ("-" if row.is_free else "- (what it needs is used up)"),
            )
            for row in rows
        ],
        right=("numa",),
        wraps=("allocated to",),
    )
