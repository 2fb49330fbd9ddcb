"""Lets the suites of a run borrow clusters of its pool, each over a connection of its own.

A suite that dies gives nothing back itself. Its connection ends then: its
cluster, of which nobody knows the state, is retired, and ``release`` is called
with what the suite said of itself, to give its value set back in pabot.
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
from mock_device.topology.features import Feature

_BACKLOG = 64
# A cluster that is not in the cache any more takes minutes.
_START_TIMEOUT_SECONDS = 1200.0
DIED = "the suite's process died"


def address() -> str:
    """Abstract Unix socket of this process's pool; without the leading NUL it can be a Robot variable."""
    return f"{socket_prefix()}/pool/{os.getpid()}"


class PoolServer:
    """Serves one pool on ``address``.

    ``suites()`` says how many suites will come in all, None as long as that is
    not known. When the last one has its cluster, or one that runs alone, idle
    ones end: they would take cores from it.
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
        """Suites that have got a cluster, or have ended without one."""
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
            """End the clusters that nobody needs, now that the suite has got its own, or needs it no more."""
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
                    # Told apart from one who has nothing to give back before the cluster starts: it may die meanwhile.
                    borrower["value_set"] = name
                    try:
                        cluster, replaces = await self._pool.borrow(name, borrower["suite"])
                    except BaseException:
                        borrower.pop("value_set")
                        raise
                    await settle(alone=alone)
                    await send(writer, result={"cluster": cluster, "replaces": str(replaces or "")})
                case {"do": "give_back", "complaint": str(complaint)}:
                    await self._pool.give_back(borrower.pop("value_set"), complaint)
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
                    await self._pool.give_back(name, DIED)
            if borrower:
                await self._release(borrower)
            await settle()


class Membership:
    """A suite's side: it joins before it acquires a value set, and leaves after it has released it."""

    def __init__(self, pool: str, suite: str, caller: str, uri: str) -> None:
        """``caller`` and ``uri`` are pabot's ``CALLER_ID`` and ``PABOTLIBURI``. Raises StepError."""
        remedy = "the run that this process belongs to is over"
        self._connection = Connection("\0" + pool, "the pool of clusters", remedy, _START_TIMEOUT_SECONDS)
        self._connection.request("join", suite=suite, caller=caller, uri=uri)

    def lacking(self, features: Sequence[Feature]) -> str:
        """Why no cluster of the pool serves a suite that needs ``features``; empty when one does."""
        return str(self._connection.request("lacking", features=[feature.value for feature in features]))

    def borrow(self, value_set: str, *, alone: bool = False) -> tuple[str, str]:
        """Name of the cluster of ``value_set``, and which unhealthy one it replaces. Waits until it runs.

        ``alone`` ends the clusters that no suite has.
        """
        answer = self._connection.request("borrow", value_set=value_set, alone=alone)
        return answer["cluster"], answer["replaces"]

    def give_back(self, complaint: str) -> None:
        """Give the cluster back; with a ``complaint`` it ends, and the next suite gets another."""
        self._connection.request("give_back", complaint=complaint)

    def leave(self) -> None:
        """End the membership in good order."""
        self._connection.request("leave")
        self._connection.close()
