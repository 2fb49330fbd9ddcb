"""A pool of clusters for suites that run in parallel.

The pool consists of *value sets* (pabot's term), each with a place for one
cluster. There may be more value sets than clusters may run at once: a cluster
starts when its value set is borrowed, and an idle cluster of another value set
ends first if the limit requires it.
"""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import io
import itertools
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from mock_device.lab.base.errors import StepError
from mock_device.topology import Topology
from mock_device.topology.features import Feature, offered

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class PooledCluster(Protocol):
    """The methods of ``lab.cluster.guest_cluster.GuestCluster`` that a pool uses; all of them block."""

    name: str

    @property
    def log_dir(self) -> Path: ...

    def alive(self) -> bool: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class ValueSet:
    """A place for one cluster."""

    name: str
    topology: Topology

    @property
    def offers(self) -> list[str]:
        """Names of the features that suites can request."""
        return sorted(feature.value for feature in offered(self.topology))

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.offers)})"


@dataclass(frozen=True)
class Retired:
    """A cluster that the pool ended because a suite left it unhealthy."""

    cluster: str
    topology: str
    suite: str
    reason: str
    logs: Path

    def __str__(self) -> str:
        return f"{self.cluster} ({self.topology}), which suite {self.suite} left unhealthy: {self.reason}"


def value_sets(topologies: Sequence[Topology], clusters: int) -> list[ValueSet]:
    """``clusters`` value sets of the first topology, and one of each further topology."""
    first, *others = topologies
    found = [ValueSet(f"{first.name}-{number}", first) for number in range(1, clusters + 1)]
    return found + [ValueSet(f"{topology.name}-1", topology) for topology in others]


def resource_file(sets: Sequence[ValueSet]) -> str:
    """pabot's ``--resourcefile``: one section per value set, with its features as tags.

    pabot merges sections with equal values, so each section also contains its name as a value.
    """
    config = configparser.ConfigParser(interpolation=None)
    for item in sets:
        config[item.name] = {"name": item.name, "tags": ", ".join(item.offers)}
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def lacking(sets: Sequence[ValueSet], features: Sequence[Feature]) -> str:
    """Why no value set serves a suite that needs ``features``; empty if one does."""
    wanted = {feature.value for feature in features}
    if any(wanted <= set(item.offers) for item in sets):
        return ""
    return f"no cluster of this pool offers {', '.join(sorted(wanted))}; it has {'; '.join(map(str, sets))}"


class _Place:
    """State of a value set."""

    def __init__(self) -> None:
        self.starting: asyncio.Task[None] | None = None
        """The pool's task, not the suite's: it continues if the suite that requested the cluster dies."""
        self.name_of_starting = ""
        self.cluster: PooledCluster | None = None
        self.borrower: str = ""
        self.released = 0
        """Sequence number of the last release; the lowest one has been idle longest."""
        self.replaces: Retired | None = None

    @property
    def occupied(self) -> bool:
        return bool(self.starting or self.cluster)

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        self.name_of_starting = name
        self.starting = asyncio.create_task(work)
        self.starting.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self.starting, self.name_of_starting = None, ""
        if not task.cancelled():
            task.exception()  # retrieve it, or asyncio logs it as never retrieved


class Pool:
    """Clusters for ``sets``, of which at most ``capacity`` run at once.

    ``start(name, topology)`` starts a cluster, which may take minutes;
    ``stop(name)`` ends one that is being started.
    """

    def __init__(
        self,
        sets: Sequence[ValueSet],
        capacity: int,
        prefix: str,
        start: Callable[[str, Topology], PooledCluster],
        stop: Callable[[str], object],
    ) -> None:
        self.sets = {item.name: item for item in sets}
        self.retired: list[Retired] = []
        self._capacity = capacity
        self._prefix = prefix
        self._start = start
        self._stop = stop
        self._places = {item.name: _Place() for item in sets}
        self._numbers = itertools.count(1)
        self._clock = itertools.count(1)
        self._closed = False

    async def borrow(self, name: str, suite: str) -> tuple[str, Retired | None]:
        """Lend value set ``name`` to ``suite``; returns the cluster's name, and the retired cluster that it replaces.

        Raises StepError if the value set is already borrowed or its cluster does not start.
        """
        if name not in self._places:
            raise StepError(f"no value set {name!r}; the pool has {', '.join(self._places)}")
        place = self._places[name]
        if place.borrower:
            raise StepError(f"value set {name} is already borrowed by suite {place.borrower}")
        place.borrower = suite
        try:
            if place.cluster and not await asyncio.to_thread(place.cluster.alive):
                await self._retire(name, "between two suites", "its supervisor is gone")
            if not place.cluster:
                if not place.starting:
                    cluster_name = f"{self._prefix}{next(self._numbers)}"
                    place.start(cluster_name, self._occupy(place, cluster_name, self.sets[name].topology))
                assert place.starting is not None
                await asyncio.shield(place.starting)
        except BaseException:
            place.borrower = ""
            raise
        assert place.cluster is not None
        replaces, place.replaces = place.replaces, None
        return place.cluster.name, replaces

    async def release(self, name: str, complaint: str = "") -> None:
        """Release value set ``name``. With a ``complaint`` its cluster is retired; the next suite gets a new one."""
        place = self._places[name]
        suite, place.borrower = place.borrower, ""
        place.released = next(self._clock)
        if complaint and place.cluster:
            await self._retire(name, suite, complaint)

    async def end_idle(self) -> None:
        """End the clusters that no suite has borrowed."""
        idle = [place for place in self._places.values() if place.cluster and not place.borrower]
        clusters = [place.cluster for place in idle if place.cluster]
        for place in idle:
            place.cluster = None
        await asyncio.gather(*(asyncio.to_thread(cluster.release) for cluster in clusters))

    def state(self) -> Mapping[str, str]:
        """Borrower of each value set; empty if it is free."""
        return {name: place.borrower for name, place in self._places.items()}

    async def close(self) -> list[str]:
        """End every cluster, also those that are being started; reasons why some have not ended in time."""
        self._closed = True
        starting = [place.name_of_starting for place in self._places.values() if place.starting]
        running = [place.cluster for place in self._places.values() if place.cluster]
        for place in self._places.values():
            place.cluster = None
        ends = await asyncio.gather(
            *(asyncio.to_thread(cluster.release) for cluster in running),
            *(asyncio.to_thread(self._stop, name) for name in starting),
            return_exceptions=True,
        )
        return [str(error) for error in ends if isinstance(error, Exception)]

    async def _occupy(self, place: _Place, cluster_name: str, topology: Topology) -> None:
        await self._make_room()
        if self._closed:
            raise StepError("the pool ends")
        cluster = await _in_daemon_thread(self._start, cluster_name, topology)
        if self._closed:
            await asyncio.to_thread(cluster.release)
            raise StepError("the pool ends")
        place.cluster = cluster

    async def _make_room(self) -> None:
        """End the cluster that has been idle longest if the new one would exceed the capacity."""
        if sum(place.occupied for place in self._places.values()) <= self._capacity:
            return
        idle = [place for place in self._places.values() if place.cluster and not place.borrower]
        if not idle:
            raise StepError(f"{self._capacity} clusters are already borrowed, no more may run at once")
        oldest = min(idle, key=lambda place: place.released)
        cluster, oldest.cluster = oldest.cluster, None
        assert cluster is not None
        await asyncio.to_thread(cluster.release)

    async def _retire(self, name: str, suite: str, reason: str) -> None:
        place = self._places[name]
        cluster, place.cluster = place.cluster, None
        assert cluster is not None
        retired = Retired(cluster.name, self.sets[name].topology.name, suite, reason, cluster.log_dir)
        self.retired.append(retired)
        place.replaces = retired
        await asyncio.to_thread(cluster.release)


async def _in_daemon_thread(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Like ``asyncio.to_thread``, but a running thread does not prevent the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def set_result(result: _Result) -> None:
        if not future.done():
            future.set_result(result)

    def set_error(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        # If the loop is closed when the work is done, the result is no longer needed.
        with contextlib.suppress(RuntimeError):
            try:
                result = work(*arguments, **options)
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller
                loop.call_soon_threadsafe(set_error, error)
            else:
                loop.call_soon_threadsafe(set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await future
