"""Detects needless writes to the driver's ResourceSlices, that is, writes while no device changes.

The API server may store a slice differently from how it was written (a quantity in another form, a field dropped
because its feature gate is off). A driver that compares the two would rewrite the slice endlessly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.driver import current
from mock_device.lab.kube import kubeclient

_MOST_WRITES = 100
"""Enough writes to stop watching."""

Object = Mapping[str, Any]


@dataclass
class _Slice:
    """Observations of one slice."""

    first: Object
    last: Object | None
    writes: int = 0
    managers: list[str] = field(default_factory=list)


class Writes:
    """Compares successive listings of all slices (API's JSON)."""

    def __init__(self) -> None:
        self._slices: dict[str, _Slice] | None = None

    @property
    def count(self) -> int:
        """Number of observed writes."""
        return sum(item.writes for item in (self._slices or {}).values())

    @property
    def names(self) -> list[str]:
        """Slices of the first listing."""
        return sorted(self._slices or ())

    def look(self, items: Iterable[Object]) -> None:
        """Compare ``items``, a complete listing, with the previous one; the first listing is the baseline."""
        now = {item["metadata"]["name"]: item for item in items}
        if self._slices is None:
            self._slices = {name: _Slice(item, item) for name, item in now.items()}
            return
        for name, item in now.items():
            if name not in self._slices:
                self._slices[name] = _Slice(item, None)
            known = self._slices[name]
            if known.last is None or _version(known.last) != _version(item):
                known.writes += 1
                known.managers += [who for who in writers(known.last, item) if who not in known.managers]
                known.last = item
        for name in self._slices.keys() - now.keys():
            if self._slices[name].last is not None:
                self._slices[name].writes += 1
                self._slices[name].last = None

    def complaints(self) -> list[str]:
        """Slices that were written, a message each, with generations and writers."""
        return [_describe(name, item) for name, item in sorted((self._slices or {}).items()) if item.writes]


def writers(before: Object | None, after: Object) -> list[str]:
    """Field managers that wrote ``after``: those whose entries changed since ``before``, else the last writer."""
    entries = _managed_fields(after)
    known = _managed_fields(before) if before else []
    changed = [entry for entry in entries if entry not in known]
    last = sorted(entries, key=lambda entry: str(entry.get("time", "")))[-1:]
    return [f"{entry.get('manager', 'unknown')} ({entry.get('operation', '?')})" for entry in changed or last]


def follow(api: ApiClient, duration: timedelta) -> Writes:
    """Watch the driver's slices for ``duration`` (wall time), or until the maximum number of writes is reached.

    Raises CheckError if there is no slice.
    """
    writes = Writes()

    def look(found: Mapping[str, Any]) -> bool:
        writes.look(kubeclient.as_json(api, item) for item in found.values())
        return writes.count >= _MOST_WRITES

    lister = client.ResourceV1Api(api).list_resource_slice
    driver = current.driver().name
    kubeclient.watch_until(lister, look, duration.total_seconds(), field_selector=f"spec.driver={driver}")
    if not writes.names:
        raise CheckError(f"expected ResourceSlices of {driver}, found none; look at: lab diagnose")
    return writes


def _version(item: Object) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def _managed_fields(item: Object) -> list[Object]:
    return list(item["metadata"].get("managedFields") or [])


def _describe(name: str, item: _Slice) -> str:
    if item.last is None:
        return f"{name}: was deleted"
    by = f", by {', '.join(item.managers)}" if item.managers else ""
    steps = [
        f"{what} {before} → {after}"
        for what, before, after in (
            ("generation", *(part["metadata"].get("generation") for part in (item.first, item.last))),
            ("pool generation", *(part["spec"]["pool"]["generation"] for part in (item.first, item.last))),
            ("resourceVersion", _version(item.first), _version(item.last)),
        )
    ]
    times = "once" if item.writes == 1 else f"{item.writes} times"
    return f"{name}: written {times}{by}: {', '.join(steps)}"
