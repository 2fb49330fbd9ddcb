"""Mutual exclusion of a PF and its VFs, which share hardware.

The counters in the slices keep the scheduler from allocating both. The node may still
be asked for both: while a pod that was deleted by force still runs, and where the
API server drops the counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mock_accel_dra.discovery import Device
from mock_accel_dra.slice_features import group
from mock_accel_dra.state import PreparedClaim, PreparedDevice


def overlapping(claims: Iterable[PreparedClaim], claim: PreparedClaim, entry: PreparedDevice) -> str:
    """Why ``claim`` cannot have ``entry`` while the other ``claims`` keep their devices; empty if it can."""
    if entry.admin:
        return ""
    for other in claims:
        for used in other.devices:
            if other.uid != claim.uid and not used.admin and _same_hardware(entry.name, used.name):
                return (
                    f"device {entry.name} shares its hardware with {used.name}, which is still prepared for claim "
                    f"{other}, so claim {claim} cannot have it"
                )
    return ""


def incompatible(
    claims: Iterable[PreparedClaim], claim: PreparedClaim, vf: Device, read: Callable[[str], Device]
) -> str:
    """Why ``claim`` cannot have ``vf`` while others use VFs of its PF of another compatibility group; empty if it can.

    ``read`` returns the device of a name in sysfs. The groups in the slices keep the scheduler from allocating both.
    """
    pf = vf.name.partition("_vf")[0]
    for other in claims:
        for used in other.devices:
            if other.uid == claim.uid or used.admin or not used.name.startswith(f"{pf}_vf") or used.name == vf.name:
                continue
            if (found := group(read(used.name))) != group(vf):
                return (
                    f"device {vf.name} is of the compatibility group {group(vf)}, but {used.name} of the group {found} "
                    f"is still prepared for claim {other}, so claim {claim} cannot have it"
                )
    return ""


def _same_hardware(one: str, other: str) -> bool:
    """A VF's name starts with its PF's (``kernel-driver/names.c``): ``mock0`` and ``mock0_vf1``."""
    return one != other and (one.startswith(f"{other}_vf") or other.startswith(f"{one}_vf"))
