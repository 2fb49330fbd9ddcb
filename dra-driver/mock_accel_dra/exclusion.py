"""A PF and its VFs are the same hardware: who has the one cannot have the other.

The counters of the slices keep the scheduler from giving both. On the node both may
be asked for nevertheless: while a pod that was deleted by force still runs, and
where the API server keeps no counters.
"""

from __future__ import annotations

from collections.abc import Iterable

from mock_accel_dra.state import PreparedClaim, PreparedDevice


def overlapping(claims: Iterable[PreparedClaim], claim: PreparedClaim, entry: PreparedDevice) -> str:
    """Why ``claim`` cannot have ``entry`` beside what the other ``claims`` have; empty when it can."""
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
    """Names of a VF begin with that of its PF (``kernel-driver/``, names): ``mock0`` and ``mock0_vf1``."""
    return one != other and (one.startswith(f"{other}_vf") or other.startswith(f"{one}_vf"))
