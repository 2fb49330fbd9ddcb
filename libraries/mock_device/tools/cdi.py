"""``lab cdi``: the files by which the container runtime gives devices to containers."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import cdi, cdi_schema, observe
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import claims, kube
from mock_device.checks.objects.slices import PublishedDevice, published
from mock_device.lab.base.tables import Table
from mock_device.tools import slices
from mock_device.topology import Topology

_HEADINGS = ("node", "device", "claim", "path")
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """A CDI file, with the device and the claim that it is for."""

    node: str
    device: str
    """Name in sysfs; empty for a file that has no device's name."""
    claim: str
    """``namespace/name``; empty when no claim has the device."""
    path: str


@dataclass(frozen=True)
class Change:
    """What became of a file between two looks."""

    what: str
    """``there`` at the first look, ``appeared``, ``changed`` or ``disappeared``."""
    file: CdiFile


def read(session: Session, node: str | None = None, device: str | None = None) -> list[CdiFile]:
    """The driver's files on all nodes or on ``node``, those of ``device`` alone.

    Raises KeyError for a node that is not there, CheckError when the device has
    no file, with those that have one.
    """
    if node is not None:
        session.topology.node(node)
    return pick(observe.read_cdi_files(session, node), device)


def pick(files: list[CdiFile], device: str | None) -> list[CdiFile]:
    """The files of ``device`` (all without one); CheckError says which devices have files."""
    if device is None:
        return files
    path = cdi.path_of(device.replace("-", "_"))
    if found := [file for file in files if file.path == path]:
        return found
    there = ", ".join(f"{file.node} {device_of(file)}" for file in files) or "none: no device is prepared for a pod"
    raise CheckError(f"no CDI file of device {device!r}; there are {there}")


def device_of(file: CdiFile) -> str:
    """Device that the name of ``file`` names; empty when it names none."""
    start, end = f"{cdi.FOLDER}/{cdi.PREFIX}", ".json"
    matches = file.path.startswith(start) and file.path.endswith(end)
    return file.path.removeprefix(start).removesuffix(end) if matches else ""


def entries(
    files: Iterable[CdiFile], published: Iterable[PublishedDevice], everything: Iterable[Mapping[str, Any]]
) -> list[Entry]:
    """``files`` with the claims, of ``everything``, that have their devices."""
    holders = {(row.node, row.device): row.holders for row in slices.rows(published, everything)}
    return [
        Entry(
            node=file.node,
            device=(device := device_of(file)),
            claim=", ".join(holder.claim for holder in holders.get((file.node, device), ())),
            path=file.path,
        )
        for file in files
    ]


def list_entries(session: Session, node: str | None = None) -> list[Entry]:
    """The files there are, with what they are for."""
    return entries(read(session, node), published(session.api), kube.all_claims(session.api))


def findings(
    topology: Topology,
    files: Iterable[CdiFile],
    published: Iterable[PublishedDevice],
    everything: Iterable[Mapping[str, Any]],
    node: str | None = None,
) -> list[str]:
    """Where ``files`` (those of ``node``, if given) break the official schema, or are not those of the claims' devices.

    A claim whose pod is only starting may not have its files yet.
    """
    files, published = list(files), list(published)
    result = cdi_schema.complaints(files)
    allocated = {}
    for claim in everything:
        try:
            for device in claims.allocated(claim, published):
                if node in (None, device.node):
                    allocated[device.key] = claims.function_of(topology, device)
        except CheckError as error:
            result.append(str(error))
    return result + cdi.complaints(files, allocated)


def check(session: Session, node: str | None = None) -> list[str]:
    """Read everything and judge it by ``findings``."""
    everything = kube.all_claims(session.api)
    return findings(session.topology, read(session, node), published(session.api), everything, node)


def changes(before: Iterable[CdiFile], after: Iterable[CdiFile]) -> list[Change]:
    """What happened between two looks, by node and path."""
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
    """What ``look`` finds, and what changes between looks that are ``pause`` seconds apart.

    ``started`` is called after the first look: what comes from then on is a
    change. It ends after ``seconds``, without them never. A file that lives
    shorter than a pause is not seen.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    last = look()
    started()
    yield from (Change("there", file) for file in last)
    while (left := pause if deadline is None else min(pause, deadline - time.monotonic())) > 0:
        time.sleep(left)
        found = look()
        yield from changes(last, found)
        last = found


def table(found: Iterable[Entry]) -> Table:
    """A row a file."""
    return Table(_HEADINGS, [(entry.node, entry.device or "-", entry.claim or "-", entry.path) for entry in found])


WATCH_HEADING = "time\twhat\tnode\tpath"


def as_line(change: Change, now: datetime.datetime) -> str:
    """A change as one tab-separated line."""
    return f"{now.isoformat(timespec='seconds')}\t{change.what}\t{change.file.node}\t{change.file.path}"
