"""NUMA nodes near a device, as k8s.io/dynamic-resource-allocation/deviceattribute derives them from sysfs."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from pathlib import Path

_NODES = "devices/system/node"
_CPUS = "devices/system/cpu"


@lru_cache(maxsize=1024)
def near(root: Path, node: int) -> tuple[int, ...]:
    """NUMA node ``node`` of the sysfs at ``root``, then those of its socket that are nearest to it, in ascending order.

    Only ``node`` if the firmware gives no distances. A node whose socket is unknown (it has memory only) counts as
    one of the same socket. Distances do not change while a system runs.
    """
    try:
        text = (root / _NODES / f"node{node}" / "distance").read_text(encoding="ascii")
        distances = dict(zip(_online(root), map(int, text.split()), strict=True))
    except (OSError, ValueError):
        return (node,)
    others = {other: distance for other, distance in distances.items() if other != node}
    if node not in distances or not others:
        return (node,)
    nearest, socket = min(others.values()), _socket(root, node)
    found = [
        other
        for other, distance in others.items()
        if distance == nearest and (socket is None or _socket(root, other) in (None, socket))
    ]
    return node, *sorted(found)


def _online(root: Path) -> list[int]:
    """Numbers of the online NUMA nodes, in the order of the columns of ``distance``."""
    text = (root / _NODES / "online").read_text(encoding="ascii").strip()
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _socket(root: Path, node: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        text = (root / _NODES / f"node{node}" / "cpulist").read_text(encoding="ascii").strip()
        cpu = int(text.replace("-", ",").partition(",")[0])
        return int((root / _CPUS / f"cpu{cpu}" / "topology/physical_package_id").read_text(encoding="ascii"))
    return None
