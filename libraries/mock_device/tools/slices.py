"""``lab slices``: published devices and the claims that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import availability, claim_forms, kube
from mock_device.checks.objects import slices as published_slices
from mock_device.checks.objects.slices import PublishedDevice
from mock_device.lab.base.tables import Table

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
            pci=str(device.attribute("pciAddress") or "-"),
            holders=holders.get((device.pool, device.device), ()),
            is_free=available.is_free(device),
        )
        for device in sorted(available.devices, key=lambda device: (device.node, str(device.attribute("pciAddress"))))
        if node in (None, device.node)
    ]


def read(session: Session, node: str | None = None) -> list[SliceRow]:
    """Published devices of the cluster or of ``node``. Raises KeyError with the names of all nodes."""
    if node is not None:
        session.topology.node(node)
    return rows(published_slices.published(session.api), kube.all_claims(session.api), node)


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
