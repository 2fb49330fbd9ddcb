"""Merges what field managers have applied to a claim's ``status.devices``, as server-side apply does.

Lists with keys (resource.k8s.io/v1): ``devices`` by driver, pool, device and share, their ``conditions`` by type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
_KEYS = ("driver", "pool", "device", "shareID")


def merged(applied: Iterable[list[Object]]) -> list[Object]:
    """``status.devices`` from what each field manager has applied last."""
    found: dict[tuple[str, ...], Object] = {}
    for devices in applied:
        for device in devices:
            key = tuple(device.get(name) or "" for name in _KEYS)
            before = found.get(key, {})
            conditions = {item["type"]: item for item in [*before.get("conditions", ()), *device["conditions"]]}
            found[key] = {**before, **device, "conditions": list(conditions.values())}
    return list(found.values())
