"""QEMU's monitor, against a fake QMP server that answers late or never."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_device.lab.guest.monitor import Monitor, SilentError
from mock_device.lab.supervisor.cluster_processes import ClusterProcesses

GREETING = {"QMP": {"version": {"qemu": {"major": 11, "minor": 1, "micro": 0}, "package": ""}, "capabilities": []}}


class Qemu:
    """A fake QEMU: answers while ``goes_on`` is set; when it is set again, answers all commands sent meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.status = "running"
        self._writers: list[asyncio.StreamWriter] = []

    def stop(self, status: str) -> None:
        """Stop the guest, as QEMU does by itself."""
        self.status = status
        event = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
        for writer in self._writers:
            writer.write(json.dumps(event).encode() + b"\r\n")

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._answer, self.path)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        writer.write(json.dumps(GREETING).encode() + b"\r\n")
        received = ""
        while chunk := await reader.read(4096):
            # A request ends with its last brace, not with a line end.
            received += chunk.decode()
            while received:
                request, end = json.JSONDecoder().raw_decode(received)
                received = received[end:].lstrip()
                await self.goes_on.wait()
                result: dict[str, Any] = {"status": self.status} if request["execute"] == "query-status" else {}
                named = {"id": request["id"]} if "id" in request else {}
                writer.write(json.dumps({"return": result} | named).encode() + b"\r\n")
        writer.close()


def node(name: str) -> Any:
    return SimpleNamespace(name=name)


def test_stopped_qemu_is_silent_until_it_continues(tmp_path: Path) -> None:
    async def check() -> None:
        qemu = Qemu(tmp_path / "qmp.sock")
        server = await qemu.serve()
        monitor = Monitor(node("node1"))
        await monitor.connect(qemu.path)
        qemu.goes_on.clear()
        for _ in range(2):
            with pytest.raises(SilentError, match="node1: QMP query-status: no answer in 0 s"):
                await monitor.look("query-status", 0.1)
        qemu.goes_on.set()
        assert await monitor.look("query-status", 10) == {"status": "running"}
        await monitor._client.disconnect()
        server.close()

    asyncio.run(check())


def test_all_guests_are_asked_in_parallel(tmp_path: Path) -> None:
    async def check() -> dict[str, dict[str, Any]]:
        qemus = {name: Qemu(tmp_path / f"{name}.sock") for name in ("node1", "node2", "node3")}
        servers = [await qemu.serve() for qemu in qemus.values()]
        processes: Any = SimpleNamespace(_monitors={name: Monitor(node(name)) for name in qemus})
        for name, monitor in processes._monitors.items():
            await monitor.connect(qemus[name].path)
        qemus["node1"].goes_on.clear()
        qemus["node2"].goes_on.clear()
        async with asyncio.timeout(1.5):
            answers = await ClusterProcesses.look(processes, "query-status", 1.0)
        for qemu in qemus.values():
            qemu.goes_on.set()
        for monitor in processes._monitors.values():
            await monitor._client.disconnect()
        for server in servers:
            server.close()
        return answers

    answers = asyncio.run(check())
    assert answers["node3"] == {"return": {"status": "running"}}
    for name in ("node1", "node2"):
        assert answers[name] == {"error": f"{name}: QMP query-status: no answer in 1 s", "silent": True}


def test_guest_that_qemu_stops_for_good_is_reported(tmp_path: Path) -> None:
    async def check() -> list[str]:
        qemu = Qemu(tmp_path / "qmp.sock")
        server = await qemu.serve()
        monitor = Monitor(node("node1"))
        reported: asyncio.Queue[str] = asyncio.Queue()
        await monitor.connect(qemu.path)
        watch = asyncio.get_running_loop().create_task(monitor.watch(reported.put_nowait))
        # A request stops the guest, too; the states after it are reported.
        for status in ("paused", "postmigrate", "internal-error", "io-error"):
            qemu.stop(status)
            # Answered after the event, so the watch has asked for the state by then.
            await monitor.look("query-version", 10)
            if status in {"internal-error", "io-error"}:
                async with asyncio.timeout(10):
                    found.append(await reported.get())
        watch.cancel()
        await monitor._client.disconnect()
        server.close()
        assert reported.empty()
        return found

    found: list[str] = []
    assert asyncio.run(check()) == ["internal-error", "io-error"]
