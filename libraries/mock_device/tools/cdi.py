"""``lab cdi``: the files that tell the container runtime how to add devices to containers."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import allocation
from mock_device.checks.nodes import cdi, cdi_schema, observe
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import claims, kube
from mock_device.checks.objects.slices import PublishedDevice, published
from mock_device.lab.base.tables import Table
from mock_device.tools import slices
from mock_device.topology import DeviceId, Topology

_HEADINGS = ("node", "device", "claim", "path")
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """A CDI file with its device and claim."""

    node: str
    device: str
    """Name in sysfs; empty if the file is not named after a device."""
    claim: str
    """``namespace/name``; empty if the device is unallocated."""
    path: str

    @property
    def id(self) -> DeviceId:
        return DeviceId(self.node, self.device)


@dataclass(frozen=True)
class Change:
    """A change of a file between two readings."""

    what: str
    """``there`` (first reading), ``appeared``, ``changed`` or ``disappeared``."""
    file: CdiFile


def read(session: Session, node: str | None = None, device: str | None = None) -> list[CdiFile]:
    """The driver's files on all nodes or on ``node``, or only those of ``device``.

    Raises KeyError for an unknown node; CheckError if the device has no file,
    with the devices that have one.
    """
    if node is not None:
        session.topology.node(node)
    return pick(observe.read_cdi_files(session, node), device)


def pick(files: list[CdiFile], device: str | None) -> list[CdiFile]:
    """The files of ``device``, or all if it is None. Raises CheckError with the devices that have files."""
    if device is None:
        return files
    path = cdi.path_of(device.replace("-", "_"))
    if found := [file for file in files if file.path == path]:
        return found
    known = ", ".join(f"{file.node} {device_of(file)}" for file in files) or "none (no device is prepared for a pod)"
    raise CheckError(f"no CDI file of device {device!r}; available: {known}")


def device_of(file: CdiFile) -> str:
    """Device after which ``file`` is named; empty if there is none."""
    start, end = cdi.around_device()
    matches = file.path.startswith(start) and file.path.endswith(end)
    return file.path.removeprefix(start).removesuffix(end) if matches else ""


def entries(
    files: Iterable[CdiFile], published: Iterable[PublishedDevice], everything: Iterable[Mapping[str, Any]]
) -> list[Entry]:
    """``files`` with the claims among ``everything`` that hold their devices."""
    holders = {row.id: row.holders for row in slices.rows(published, everything)}
    return [
        Entry(
            node=file.node,
            device=(device := device_of(file)),
            claim=", ".join(holder.claim for holder in holders.get(DeviceId(file.node, device), ())),
            path=file.path,
        )
        for file in files
    ]


def differences(found: Iterable[Entry], expected: Mapping[DeviceId, str]) -> list[str]:
    """A message unless the listed devices and claims (``namespace/name``) are exactly the ``expected`` ones."""
    shown = sorted(f"{entry.id} {entry.claim}" for entry in found)
    wanted = sorted(f"{device} {claim}" for device, claim in expected.items())
    return [] if shown == wanted else [f"expected CDI files of {wanted}, found those of {shown}"]


def list_entries(session: Session, node: str | None = None) -> list[Entry]:
    """All files, with their devices and claims."""
    return entries(read(session, node), published(session.api), kube.all_claims(session.api))


def findings(
    topology: Topology,
    files: Iterable[CdiFile],
    published: Iterable[PublishedDevice],
    everything: Iterable[Mapping[str, Any]],
    node: str | None = None,
) -> list[str]:
    """Violations of the official schema, and differences between ``files`` (of ``node``) and the claims' devices.

    A claim whose pod is starting may not have its files yet.
    """
    files, published = list(files), list(published)
    result = cdi_schema.complaints(files)
    allocated = {}
    for claim in everything:
        try:
            for device in claims.allocated(claim, published):
                if node in (None, device.node):
                    allocated[device.id] = allocation.function_of(topology, device)
        except CheckError as error:
            result.append(str(error))
    return result + cdi.complaints(files, allocated)


def check(session: Session, node: str | None = None) -> list[str]:
    """Read everything and return its ``findings``."""
    everything = kube.all_claims(session.api)
    return findings(session.topology, read(session, node), published(session.api), everything, node)


def unreported(changes: Iterable[Change], what: str, devices: Iterable[DeviceId]) -> list[str]:
    """Those of ``devices`` for whose file no change ``what`` is among ``changes``."""
    seen = {DeviceId(change.file.node, device_of(change.file)) for change in changes if change.what == what}
    return [f"{device}: its file has not {what}" for device in devices if device not in seen]


def parse_change(line: str) -> Change | None:
    """Parse a line of ``lab cdi watch --json``; None for the line that announces the end of the first reading."""
    fields = json.loads(line)
    return Change(fields["what"], CdiFile(**fields["file"])) if "file" in fields else None


def changes(before: Iterable[CdiFile], after: Iterable[CdiFile]) -> list[Change]:
    """Changes between two readings, by node and path."""
    old = {(file.node, file.path): file for file in before}
    new = {(file.node, file.path): file for file in after}
    result = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            result.append(Change("appeared", new[key]))
        elif key not in new:
            result.append(Change("disappeared", old[key]))
        elif old[key] != new[key]:
            result.append(Change("changed", new[key]))
    return result


def watch(
    look: Callable[[], list[CdiFile]],
    seconds: float | None,
    started: Callable[[], None],
    pause: float = _PAUSE_SECONDS,
) -> Iterator[Change]:
    """Yield what ``look`` returns, then changes, calling it every ``pause`` seconds.

    ``started`` is called after the first reading; everything after it is a
    change. Ends after ``seconds``, or never if it is None. Files that exist for
    less than a pause are missed.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    last = look()
    started()
    yield from (Change("there", file) for file in last)
    while (remaining := pause if deadline is None else min(pause, deadline - time.monotonic())) > 0:
        time.sleep(remaining)
        found = look()
        yield from changes(last, found)
        last = found


def table(found: Iterable[Entry]) -> Table:
    """One row per file."""
    return Table(_HEADINGS, [(entry.node, entry.device or "-", entry.claim or "-", entry.path) for entry in found])


WATCH_HEADING = "time\twhat\tnode\tpath"


def as_line(change: Change, now: datetime.datetime) -> str:
    """A change as one tab-separated line."""
    return f"{now.isoformat(timespec='seconds')}\t{change.what}\t{change.file.node}\t{change.file.path}"
