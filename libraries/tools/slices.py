"""``lab slices``: what is published, and who has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scenario import claims, kube
from scenario.session import Session
from scenario.slices import PublishedDevice

_HEADING = "name\tnode\tdevice\tnuma\tpci\tallocated to"


@dataclass(frozen=True)
class Holder:
    """A claim that has a device, with the pods it is reserved for."""

    claim: str
    """``namespace/name``."""
    pods: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.claim} → {', '.join(self.pods) or 'no pod'}"


@dataclass(frozen=True)
class SliceRow:
    """A published device."""

    name: str
    """Of the ResourceSlice."""
    node: str
    device: str
    """Name in sysfs."""
    numa_node: int | None
    pci: str
    holders: tuple[Holder, ...]
    """Several only with administrative access; empty when the device is free."""


def rows(
    published: Iterable[PublishedDevice], everything: Iterable[Mapping[str, Any]], node: str | None = None
) -> list[SliceRow]:
    """Published devices (of ``node``) with the claims of ``everything`` (API's JSON) that have them."""
    holders: dict[tuple[str, str], list[Holder]] = {}
    for claim in everything:
        pods = tuple(
            user["name"]
            for user in (claim.get("status") or {}).get("reservedFor") or []
            if user.get("resource") == "pods"
        )
        holder = Holder(f"{claim['metadata']['namespace']}/{claim['metadata']['name']}", pods)
        for item in claims.results(claim):
            holders.setdefault((item["pool"], item["device"]), []).append(holder)
    return [
        SliceRow(
            name=device.slice_name,
            node=device.node,
            device=device.name,
            numa_node=device.numa_node,
            pci=str(device.attribute("pciAddress") or "-"),
            holders=tuple(holders.get((device.pool, device.device), ())),
        )
        for device in sorted(published, key=lambda device: (device.node, str(device.attribute("pciAddress"))))
        if node in (None, device.node)
    ]


def read(session: Session, node: str | None = None) -> list[SliceRow]:
    """What is published in the cluster, or of ``node``; KeyError names the nodes there are."""
    if node is not None:
        session.topology.node(node)
    return rows(kube.published(session.api), kube.all_claims(session.api), node)


def as_text(table: Iterable[SliceRow]) -> str:
    """Tab-separated lines with a heading."""
    lines = [_HEADING]
    for row in table:
        numa = "-" if row.numa_node is None else str(row.numa_node)
        held = "; ".join(map(str, row.holders)) or "-"
        lines.append("\t".join([row.name, row.node, row.device, numa, row.pci, held]))
    return "\n".join(lines)
