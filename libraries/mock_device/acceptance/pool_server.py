"""Lets the suites of a run borrow clusters from its pool, each suite over its own connection.

A suite that dies cannot release its cluster, but its connection ends. The
cluster, whose state is unknown, is then retired, and ``release`` is called with
the suite's identity, to release its value set in pabot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mock_device.acceptance.pool import Pool, lacking
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import MAX_LINE_BYTES, Connection, send, serve
from mock_device.lab.base.spec import socket_prefix
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology.features import Feature

_BACKLOG = 64
DIED = "the suite's process died"


def address() -> str:
    """Abstract Unix socket of this process's pool; without the leading NUL it can be a Robot variable."""
    return f"{socket_prefix()}/pool/{os.getpid()}"


class PoolServer:
    """Serves a pool on ``address``.

    ``suites()`` returns the total number of suites of the run, None while it is
    unknown. When the last suite, or one that runs alone, has its cluster, idle
    clusters end, because they would take CPU time from it.
    """

    def __init__(
        self,
        pool: Pool,
        release: Callable[[dict[str, str]], Awaitable[None]],
        suites: Callable[[], int | None],
    ) -> None:
        self._pool = pool
        self._release = release
        self._suites = suites
        self._settled = 0
        """Number of suites that have received a cluster or ended without one."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.bind("\0" + address())
        listener.listen(_BACKLOG)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)

    def close(self) -> None:
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        borrower: dict[str, str] = {}
        settled = False

        async def settle(*, alone: bool = False) -> None:
            """End unneeded clusters, now that the suite has its cluster or needs none any more."""
            nonlocal settled
            self._settled += not settled
            settled = True
            expected = self._suites()
            if alone or (expected is not None and self._settled >= expected):
                await self._pool.end_idle()

        async def answer(request: dict[str, Any]) -> None:
            match request:
                case {"do": "join", "suite": str(suite), "caller": str(caller), "uri": str(uri)}:
                    borrower.update(suite=suite, caller=caller, uri=uri)
                    await send(writer, result=True)
                case {"do": "lacking", "features": list(features)}:
                    await send(writer, result=lacking([*self._pool.sets.values()], [*map(Feature, features)]))
                case {"do": "borrow", "value_set": str(name), "alone": bool(alone)}:
                    # Set before the cluster starts, because the suite may die meanwhile.
                    borrower["value_set"] = name
                    try:
                        cluster, replaces = await self._pool.borrow(name, borrower["suite"])
                    except BaseException:
                        borrower.pop("value_set")
                        raise
                    await settle(alone=alone)
                    await send(writer, result={"cluster": cluster, "replaces": str(replaces or "")})
                case {"do": "release", "complaint": str(complaint)}:
                    await self._pool.release(borrower.pop("value_set"), complaint)
                    await settle()
                    await send(writer, result=True)
                case {"do": "leave"}:
                    borrower.clear()
                    await send(writer, result=True)
                case _:
                    raise ValueError(f"not a request to a pool: {str(request)[:200]}")

        try:
            await serve(reader, writer, answer)
        finally:
            if name := borrower.pop("value_set", ""):
                with contextlib.suppress(StepError):
                    await self._pool.release(name, DIED)
            if borrower:
                await self._release(borrower)
            await settle()


class Membership:
    """The suite's side: join before acquiring a value set, leave after releasing it."""

    def __init__(self, pool: str, suite: str, caller: str, uri: str) -> None:
        """``caller`` and ``uri`` are pabot's ``CALLER_ID`` and ``PABOTLIBURI``. Raises StepError."""
        remedy = "the run to which this process belongs is over"
        self._connection = Connection("\0" + pool, "the pool of clusters", remedy, Timeout.POOL_CLUSTER.seconds)
        self._connection.request("join", suite=suite, caller=caller, uri=uri)

    def lacking(self, features: Sequence[Feature]) -> str:
        """Why no cluster of the pool serves a suite that needs ``features``; empty if one does."""
        return str(self._connection.request("lacking", features=[feature.value for feature in features]))

    def borrow(self, value_set: str, *, alone: bool = False) -> tuple[str, str]:
        """Borrow the cluster of ``value_set`` and wait until it runs; returns its name and the retired one it replaces.

        ``alone`` ends the clusters that no suite has borrowed.
        """
        answer = self._connection.request("borrow", value_set=value_set, alone=alone)
        return answer["cluster"], answer["replaces"]

    def release(self, complaint: str) -> None:
        """Release the cluster; with a ``complaint`` it ends, and the next suite gets a new one."""
        self._connection.request("release", complaint=complaint)

    def leave(self) -> None:
        """End the membership; the pool then knows that the suite did not die."""
        self._connection.request("leave")
        self._connection.close()
