"""Mutual exclusion of a PF and its VFs, which share hardware.

The counters in the slices keep the scheduler from allocating both. The node may still
be asked for both: while a pod that was deleted by force still runs, and where the
API server drops the counters.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def _same_hardware(one: str, other: str) -> bool:
    """A VF's name starts with its PF's (``kernel-driver/names.c``): ``mock0`` and ``mock0_vf1``."""
    return one != other and (one.startswith(f"{other}_vf") or other.startswith(f"{one}_vf"))
