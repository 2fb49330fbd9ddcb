"""QEMU's monitor (QMP) of one guest, and the devices that are plugged over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient
from qemu.qmp.error import QMPError

from mock_device.lab.base import disk
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import Node, Slot

_CONNECT_POLL_SECONDS = 0.05
_MIGRATION_POLL_SECONDS = 0.02


FATAL_STATES = frozenset({"internal-error", "io-error", "guest-panicked", "watchdog"})
"""Values of RunState (QEMU's qapi/run-state.json) of a guest that QEMU has stopped for good, without a request."""


class MonitorError(Exception):
    """A QMP command failed; the message has QEMU's reason."""


class SilentError(MonitorError):
    """QEMU did not answer in time: it is stopped, or its guest keeps it busy."""


def device_add_arguments(slot: Slot, sockets: Path) -> Iterator[dict[str, Any]]:
    """Arguments of QMP ``device_add`` for each function of ``slot``; function 0, which makes the guest scan, last."""
    for function in sorted(slot.functions, key=lambda function: function.function == 0):
        yield {
            "driver": "vfio-user-pci",
            "id": function.name,
            "bus": slot.root_port,
            "addr": f"{function.device:#x}.{function.function:#x}",
            "multifunction": function.multifunction,
            # QEMU complains about an option ROM of size zero.
            "rombar": 0,
            "socket": {"type": "unix", "path": str(sockets / f"{function.name}.sock")},
        }


class Monitor:
    """Connection to one guest's QMP socket; it ends when QEMU does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._client = QMPClient(node.name)
        # Registered before the first connection, so that no event is missed.
        self._stops = EventListener("STOP")
        self._client.register_listener(self._stops)

    async def connect(self, path: Path) -> None:
        """Connect as soon as QEMU listens. Raises MonitorError after 20 s."""
        deadline = asyncio.get_running_loop().time() + Timeout.MONITOR_CONNECT.seconds
        while True:
            try:
                await self._client.connect(str(path))
                return
            except QMPError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise MonitorError(f"{self.node.name}: QEMU's monitor {path} does not answer: {error}") from error
                # After a failed attempt the client needs a call of disconnect() before the next one.
                await self._client.disconnect()
                await asyncio.sleep(_CONNECT_POLL_SECONDS)

    async def execute(self, command: str, **arguments: Any) -> Any:
        """Run one QMP command and return its ``return`` value. Raises MonitorError."""
        return await self._execute(command, arguments, Timeout.MONITOR_COMMAND.seconds)

    async def look(self, command: str, timeout: float) -> Any:
        """Like ``execute``, for a command that changes nothing. Raises SilentError after ``timeout`` seconds."""
        return await self._execute(command, {}, timeout)

    async def _execute(self, command: str, arguments: dict[str, Any], timeout: float) -> Any:
        try:
            async with asyncio.timeout(timeout):
                # The client drops an answer that comes later.
                return await self._client.execute(command, arguments or None)
        except TimeoutError as error:
            raise SilentError(f"{self.node.name}: QMP {command}: no answer in {timeout:.0f} s") from error
        except QMPError as error:
            raise MonitorError(f"{self.node.name}: QMP {command}: {error}") from error

    async def watch(self, stopped: Callable[[str], None]) -> None:
        """Call ``stopped`` with QEMU's state each time QEMU stops the guest for good; until cancelled.

        ``stop``, and saving the guest, stop it, too, on request: these are left out.
        """
        async for _ in self._stops:
            with contextlib.suppress(MonitorError):
                status = (await self.execute("query-status"))["status"]
                if status in FATAL_STATES:
                    stopped(str(status))

    async def plug(self, slot: Slot, sockets: Path) -> None:
        """Hot-plug all functions of ``slot``.

        ``sockets`` is the folder of the device servers' sockets, as QEMU sees it.
        """
        for arguments in device_add_arguments(slot, sockets):
            await self.execute("device_add", **arguments)

    async def save(self, path: Path) -> None:
        """Stop the guest and write its memory and devices to ``path``; its disk is complete afterwards.

        Raises MonitorError; the message names a full disk, which QEMU may report as an input/output error.
        """
        await self._use_mapped_ram()
        await self.execute("stop")
        try:
            await self.execute("migrate", uri=f"file:{path}")
            await self._migrated("save", Timeout.SAVE.seconds)
        except MonitorError as error:
            if full := disk.shortage(path.parent):
                raise MonitorError(f"{error}; {full}") from error
            raise

    async def load(self, path: Path) -> None:
        """Load what ``save`` wrote into a guest that waits for it (``-incoming defer``); it stays paused."""
        await self._use_mapped_ram()
        await self.execute("migrate-incoming", uri=f"file:{path}")
        await self._migrated("load", Timeout.LOAD.seconds)

    async def quit(self) -> None:
        """End QEMU."""
        with contextlib.suppress(QMPError, EOFError):
            await self._client.execute("quit")

    async def _use_mapped_ram(self) -> None:
        await self.execute("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])

    async def _migrated(self, what: str, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        while (found := await self.execute("query-migrate")).get("status") != "completed":
            if found.get("status") in {"failed", "cancelled"}:
                raise MonitorError(f"{self.node.name}: {what}: {found.get('error-desc', found['status'])}")
            if asyncio.get_running_loop().time() > deadline:
                raise MonitorError(f"{self.node.name}: {what} is not complete after {timeout:.0f} s: {found}")
            await asyncio.sleep(_MIGRATION_POLL_SECONDS)

    async def unplug(self, slot: Slot) -> None:
        """Hot-unplug ``slot`` and wait until the guest has released every function. Raises MonitorError after 60 s."""
        waiting = {function.name for function in slot.functions}
        with self._client.listener("DEVICE_DELETED") as listener:
            await self.execute("device_del", id=slot.functions[0].name)
            try:
                async with asyncio.timeout(Timeout.UNPLUG.seconds):
                    async for event in listener:
                        data = event["data"]
                        waiting.discard(str(data.get("device", "")) if isinstance(data, dict) else "")
                        if not waiting:
                            return
            except TimeoutError as error:
                raise MonitorError(
                    f"{self.node.name}: the guest has not released {', '.join(sorted(waiting))} of root port "
                    f"{slot.root_port} after {Timeout.UNPLUG.seconds:.0f} s; see its console log"
                ) from error
