"""Running clusters of this cache, as their supervisors report them; cheap, since nothing else is asked."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import MAX_LINE_BYTES
from mock_device.lab.base.spec import ClusterPaths, ClusterSpec, DamagedFileError, control_address
from mock_device.lab.cluster import attached
from mock_device.lab.cluster.attached import AttachedPaths

_SOCKETS = Path("/proc/net/unix")
_LISTENS = 0x10000
"""``__SO_ACCEPTCON`` of ``linux/net.h``, in the column Flags."""
_FIELDS_BEFORE_PATH = 7
_ANSWER_SECONDS = 1.0
_GUEST = "qemu-"
_DEVICES = "devices-"


@dataclass(frozen=True)
class Memory:
    """Memory of a cluster's processes on this machine, bytes; see ``lab.base.processes.ProcessState``."""

    guests: int = 0
    control_plane: int = 0
    device_servers: int = 0

    @property
    def total(self) -> int:
        return self.guests + self.control_plane + self.device_servers


@dataclass(frozen=True)
class ClusterView:
    """One cluster, as its supervisor sees it."""

    name: str
    topology: str
    kubernetes: str
    """The lab's version with which it was started, such as ``v1.37``; empty for another Kubernetes."""
    state: str
    """``starting``, ``running``, ``failed``, ``saved``, ``stopping``, or ``no answer``; ``attaching``, ``attached`` or
    ``detaching`` for a cluster that exists."""
    detail: str = ""
    """Current step of a start, reason of a failure, or time without an answer."""
    started: float = 0.0
    """Seconds since the epoch; 0 if unknown."""
    stays: bool = False
    """Whether it keeps running without holders."""
    holders: list[str] = field(default_factory=list)
    """Clients that hold it, and what they do."""
    memory: Memory = Memory()
    died: list[str] = field(default_factory=list)
    """Processes that ended unexpectedly, with their exit codes; guests that QEMU stopped, with its state."""

    def as_dict(self) -> dict[str, Any]:
        """Fields for JSON."""
        return {**asdict(self), "memory": {**asdict(self.memory), "total": self.memory.total}}


def running(table: Path = _SOCKETS) -> list[str]:
    """Sorted names of the clusters of this cache that have a supervisor; ``table`` has the format of proc_net(5).

    A supervisor listens while its cluster's name is taken; its abstract socket ends with it.
    """
    prefix = os.fsencode(control_address("")).replace(b"\0", b"@")
    names = set()
    for line in table.read_bytes().splitlines()[1:]:
        columns = line.split(maxsplit=_FIELDS_BEFORE_PATH)
        if len(columns) <= _FIELDS_BEFORE_PATH or not columns[-1].startswith(prefix):
            continue
        name = os.fsdecode(columns[-1][len(prefix) :])
        # Clients' connections have the same path but do not listen. A name with a slash belongs to a pool.
        if int(columns[3], 16) & _LISTENS and "/" not in name:
            names.add(name)
    return sorted(names)


def view(status: Mapping[str, Any]) -> ClusterView:
    """Make a view of a supervisor's answer to ``status``."""
    processes: Sequence[Mapping[str, Any]] = status["processes"]
    memory = {_GUEST: 0, _DEVICES: 0, "": 0}
    for process in processes:
        kind = next(prefix for prefix in memory if process["name"].startswith(prefix))
        memory[kind] += process["memory"]
    return ClusterView(
        name=status["name"],
        topology=Path(status["topology"]).stem,
        kubernetes=status.get("kubernetes", ""),
        state=status["state"],
        detail=status["reason"] or status.get("step", ""),
        started=status["started"],
        stays=status["stays"],
        holders=list(status["holders"]),
        memory=Memory(memory[_GUEST], memory[""], memory[_DEVICES]),
        died=[
            f"{process['name']} ({process['exit_code']})"
            for process in processes
            if process["exit_code"] is not None and not process.get("ending")
        ]
        + [f"{process} ({state})" for process, state in status.get("stopped guests", {}).items()],
    )


class _Supervisor:
    """A connection to one supervisor. It stays open, so that a hanging supervisor gets one request only."""

    def __init__(self, name: str) -> None:
        self._known = ClusterView(name, *_specified(name), "no answer")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asked: asyncio.Task[dict[str, Any]] | None = None
        self._since = 0.0

    def ask(self) -> asyncio.Task[dict[str, Any]]:
        """The pending request, or a new one."""
        if self._asked is None:
            self._since = time.monotonic()
            self._asked = asyncio.create_task(self._request())
        return self._asked

    async def _request(self) -> dict[str, Any]:
        if self._streams is None:
            address = control_address(self._known.name)
            self._streams = await asyncio.open_unix_connection(address, limit=MAX_LINE_BYTES)
        reader, writer = self._streams
        writer.write(b'{"do": "status"}\n')
        await writer.drain()
        if not (line := await reader.readline()):
            raise ConnectionResetError
        result: dict[str, Any] = json.loads(line)["result"]
        return result

    def view(self) -> ClusterView:
        """The answer; without one, the last known view in state ``no answer``."""
        assert self._asked is not None
        if not self._asked.done():
            seconds = time.monotonic() - self._since
            return replace(self._known, state="no answer", detail=f"its supervisor is silent for {seconds:.0f} s")
        asked, self._asked = self._asked, None
        try:
            self._known = view(asked.result())
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            if isinstance(error, ConnectionError):
                return replace(self._known, state="stopping", detail="")
            return replace(self._known, state="no answer", detail=f"its supervisor cannot be asked: {error!r}")
        return self._known

    def close(self) -> None:
        if self._asked:
            self._asked.cancel()
            self._asked.add_done_callback(_forget)
            self._asked = None
        if self._streams:
            self._streams[1].close()
            self._streams = None


def _forget(asked: asyncio.Task[dict[str, Any]]) -> None:
    """Retrieve the error of an abandoned request; asyncio would report it as never retrieved."""
    if not asked.cancelled():
        asked.exception()


def _specified(name: str) -> tuple[str, str]:
    """Topology and version of Kubernetes in the cluster's spec; empty if it is not written yet, or damaged."""
    try:
        spec = ClusterSpec.load(ClusterPaths.of(name).spec)
    except DamagedFileError:
        return "", ""
    return Path(spec.topology).stem, spec.kubernetes


class Overview:
    """Looks at all running clusters, repeatedly; needs a running event loop."""

    def __init__(self) -> None:
        self._supervisors: dict[str, _Supervisor] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for supervisor in self._supervisors.values():
            supervisor.close()

    async def look(self) -> list[ClusterView]:
        """All clusters, sorted by name. One that has not answered within a second is in state ``no answer``."""
        names = running()
        for gone in self._supervisors.keys() - set(names):
            self._supervisors.pop(gone).close()
        for name in names:
            if name not in self._supervisors:
                self._supervisors[name] = _Supervisor(name)
        if requests := [self._supervisors[name].ask() for name in names]:
            await asyncio.wait(requests, timeout=_ANSWER_SECONDS)
        found = [self._supervisors[name].view() for name in names] + [_attached(name) for name in attached.names()]
        return sorted(found, key=lambda item: item.name)


def _attached(name: str) -> ClusterView:
    """A cluster that exists: it has no supervisor and takes no memory of this machine."""
    try:
        record = AttachedPaths.of(name).load()
    except StepError as error:
        return ClusterView(name, "", "", "damaged", str(error))
    return ClusterView(name, "external", "", record.state, f"by {record.profile}")


def look() -> list[ClusterView]:
    """All running clusters of this cache, once."""

    async def once() -> list[ClusterView]:
        async with Overview() as overview:
            return await overview.look()

    return asyncio.run(once())
