"""Which clusters of this cache run, and what their supervisors say of them: nobody else is asked, so it is cheap."""

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

from mock_device.lab.base.json_lines import MAX_LINE_BYTES
from mock_device.lab.base.spec import ClusterPaths, ClusterSpec, DamagedFileError, control_address

_SOCKETS = Path("/proc/net/unix")
_LISTENS = 0x10000
"""``__SO_ACCEPTCON`` of ``linux/net.h``, in the column Flags."""
_FIELDS_BEFORE_PATH = 7
_ANSWER_SECONDS = 1.0
_GUEST = "qemu-"
_DEVICES = "devices-"


@dataclass(frozen=True)
class Memory:
    """What a cluster's processes take of this machine's memory, bytes; see ``lab.base.processes.ProcessState``."""

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
    state: str
    """``starting``, ``running``, ``failed``, ``saved``, ``stopping``, or ``no answer``."""
    detail: str = ""
    """The step that a start is at, why a cluster failed, how long there was no answer."""
    started: float = 0.0
    """Seconds since the epoch; 0 when it is not known."""
    stays: bool = False
    """Whether it lives on when nobody holds it."""
    holders: list[str] = field(default_factory=list)
    """Who has it, and what they do."""
    memory: Memory = Memory()
    died: list[str] = field(default_factory=list)
    """Processes that ended without being told to, with their exit codes."""

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "memory": {**asdict(self.memory), "total": self.memory.total}}


def running(table: Path = _SOCKETS) -> list[str]:
    """Names of the clusters of this cache that have a supervisor, in order; ``table`` is as in proc_net(5).

    A supervisor listens from the moment on in which its cluster's name is taken, and nothing stays of the socket.
    """
    prefix = os.fsencode(control_address("")).replace(b"\0", b"@")
    names = set()
    for line in table.read_bytes().splitlines()[1:]:
        columns = line.split(maxsplit=_FIELDS_BEFORE_PATH)
        if len(columns) <= _FIELDS_BEFORE_PATH or not columns[-1].startswith(prefix):
            continue
        name = os.fsdecode(columns[-1][len(prefix) :])
        # Connections of clients have the same path, but do not listen; what has a slash is no cluster but a pool.
        if int(columns[3], 16) & _LISTENS and "/" not in name:
            names.add(name)
    return sorted(names)


def view(status: Mapping[str, Any]) -> ClusterView:
    """What a supervisor's answer to ``status`` means."""
    processes: Sequence[Mapping[str, Any]] = status["processes"]
    memory = {_GUEST: 0, _DEVICES: 0, "": 0}
    for process in processes:
        kind = next(prefix for prefix in memory if process["name"].startswith(prefix))
        memory[kind] += process["memory"]
    return ClusterView(
        name=status["name"],
        topology=Path(status["topology"]).stem,
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
        ],
    )


class _Supervisor:
    """A connection to one supervisor; it stays open, so that one that hangs has a single request to answer."""

    def __init__(self, name: str) -> None:
        self._known = ClusterView(name, _topology_of(name), "no answer")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asked: asyncio.Task[dict[str, Any]] | None = None
        self._since = 0.0

    def ask(self) -> asyncio.Task[dict[str, Any]]:
        """The request that is under way, or a new one."""
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
        """What it has answered, or what is known from before and that it does not answer."""
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
    """Nobody waits for this answer any more; asyncio would complain of an error that nobody has seen."""
    if not asked.cancelled():
        asked.exception()


def _topology_of(name: str) -> str:
    """From the file that the supervisor was told; empty when that is not written yet, or damaged."""
    try:
        return Path(ClusterSpec.load(ClusterPaths.of(name).spec).topology).stem
    except DamagedFileError:
        return ""


class Overview:
    """Looks at all running clusters, as often as one likes; only inside a running event loop."""

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
        """All clusters by name. A supervisor that has not answered after a second is shown so, and asked no more."""
        names = running()
        for gone in self._supervisors.keys() - set(names):
            self._supervisors.pop(gone).close()
        for name in names:
            if name not in self._supervisors:
                self._supervisors[name] = _Supervisor(name)
        if requests := [self._supervisors[name].ask() for name in names]:
            await asyncio.wait(requests, timeout=_ANSWER_SECONDS)
        return [self._supervisors[name].view() for name in names]


def look() -> list[ClusterView]:
    """All running clusters of this cache, once."""

    async def once() -> list[ClusterView]:
        async with Overview() as overview:
            return await overview.look()

    return asyncio.run(once())
