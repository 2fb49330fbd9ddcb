"""Owner of every process of one cluster.

``lab.cluster.launcher`` starts it by unshare(1) as the first process of new PID, mount
and network namespaces. When it ends, for whatever reason, the kernel kills all other
processes in them, and the namespaces, mounts and sockets disappear.

Clients talk to it in the protocol of ``lab.base.json_lines``; ``lab.cluster.control`` is
their side. A cluster ends when its last holder disconnects; after the request ``stay``
it runs until the request ``stop``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from mock_device.lab.base import command_line, disk, timeouts
from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import MAX_LINE_BYTES, send, serve
from mock_device.lab.base.processes import Child
from mock_device.lab.base.spec import ClusterSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import API_PORT, HOST_ADDRESS, REGISTRY_PORT, SSH_PORT
from mock_device.lab.guest.monitor import MonitorError
from mock_device.lab.supervisor import network
from mock_device.lab.supervisor.cluster_processes import ClusterProcesses, Step
from mock_device.topology import Node

# Clients wait longer for an answer (lab.base.json_lines).
_SIGN_OF_LIFE_SECONDS = 30.0


class Supervisor:
    """State of one cluster, and the requests of its clients."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.paths = spec.paths
        self.topology = spec.load_topology()
        self.processes = ClusterProcesses(spec, self.topology, self._child_ended, self._guest_stopped)
        self.state = "starting"
        self.reason = ""
        self._step: Step | None = None
        self._golden_failed = False
        self._stopped_guests: dict[str, str] = {}
        self.started = time.time()
        self._stay = False
        self._holders: dict[int, str] = {}
        self._changed = asyncio.Condition()
        self._stop = asyncio.Event()
        self._events: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def _child_ended(self, child: Child) -> None:
        if child.name.startswith("devices-"):
            # The guests run on with a dead device, as with real hardware.
            return
        reason = f"{child.name} ended unexpectedly with {child.process.returncode}, log: {child.log}"
        if self.state != "stopping":
            # A killed process (by the OOM killer, say) is no sign of a bad golden cluster.
            self._fail(reason, golden=child.process.returncode != -signal.SIGKILL)

    def _guest_stopped(self, node: str, status: str) -> None:
        """Fail the cluster: QEMU does not run the guest of ``node`` any more, for the reason ``status``."""
        self._stopped_guests[f"qemu-{node}"] = status
        log = self.processes.children[f"qemu-{node}"].log
        reason = f"QEMU stopped guest {node} ({status}), log: {log}"
        if status == "internal-error" and self.spec.qemu.accelerator == "kvm":
            reason += "; KVM cannot run it on this machine: use a profile with accelerator: tcg"
        elif status == "io-error":
            reason += f"; it cannot write its disk: {disk.shortage(self.paths.data) or 'see dmesg on this machine'}"
        self._fail(reason, golden=status == "internal-error")

    def _fail(self, reason: str, *, golden: bool = False) -> None:
        """Keep the first failure, and notify the clients that follow the start.

        ``golden``: the golden cluster may be the cause, if the current step reads it.
        """
        if self.state != "failed":
            self._golden_failed = golden and self.state == "starting" and self._step is not None and self._step.golden
            self.state, self.reason = "failed", reason
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _event(self, **event: Any) -> None:
        async with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    async def run(self) -> None:
        """Start the cluster, serve clients, and end all processes once no client holds the cluster any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        control = await asyncio.start_unix_server(
            self._serve, sock=socket.socket(fileno=self.spec.control_fd), limit=MAX_LINE_BYTES
        )
        starting = loop.create_task(self._start())
        starting.add_done_callback(self._start_ended)
        loop.call_later(Timeout.FIRST_HOLDER.seconds, self._stop_if_unheld)
        await self._stop.wait()
        self.state = "stopping"
        starting.cancel()
        await asyncio.wait([starting])
        await self.processes.children.kill_all()
        shutil.rmtree(self.paths.data, ignore_errors=True)
        self.paths.access.unlink(missing_ok=True)
        control.close()

    def _stop_if_unheld(self) -> None:
        if not self._holders and not self._stay:
            self._stop.set()

    async def _start(self) -> None:
        servers = []
        try:
            for step in self.processes.steps():
                begin = time.monotonic()
                self._step = step
                await self._event(step=step.name, state="running")
                await step.work()
                await self._event(step=step.name, state="done", seconds=time.monotonic() - begin)
            self._step = None
            servers.append(await network.forward(self.spec.api_fd, self.processes.api_address, API_PORT))
            servers.append(await network.forward(self.spec.registry_fd, HOST_ADDRESS, REGISTRY_PORT))
            for node in self.topology.nodes:
                servers.append(await network.forward(self.spec.ssh_fds[node.name], node.address, SSH_PORT))
            if self.state == "starting":
                self.state = "running"
        except (StepError, MonitorError, OSError) as error:
            self._fail(str(error), golden=True)
        await self._notify()

    def _start_ended(self, task: asyncio.Task[None]) -> None:
        """Fail the cluster on an unexpected exception in the start, so that clients do not wait."""
        if not task.cancelled() and (error := task.exception()):
            traceback.print_exception(error)
            self._fail(f"bug in the supervisor: {error!r}, log: {self.paths.logs / 'supervisor.log'}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client's requests; release what it holds when it disconnects."""
        try:
            await serve(reader, writer, lambda request: self._answer(request, writer), (MonitorError,))
        finally:
            self._holders.pop(id(writer), None)
            self._stop_if_unheld()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        match request:
            case {"do": "hold", "who": str(who)}:
                self._holders[id(writer)] = who
                await send(writer, result=True)
            case {"do": "stay"}:
                self._stay = True
                await send(writer, result=True)
            case {"do": "stop"}:
                await send(writer, result=True)
                self._stop.set()
            case {"do": "follow"}:
                await self._follow(writer)
            case {"do": "status"}:
                await send(writer, result=self._status())
            case {"do": "qmp", "node": str(node), "execute": str(command), "arguments": dict(arguments)}:
                await send(writer, result=await self.processes.monitor(node).execute(command, **arguments))
            case {"do": "look", "execute": str(command), "seconds": int() | float() as seconds}:
                await send(writer, result=await self.processes.look(command, seconds))
            case {"do": "save", "folder": str(folder)}:
                self.state = "saved"
                await self.processes.save(Path(folder))
                await send(writer, result=True)
            case {
                "do": "upgrade",
                "binaries": str(programs),
                "kubernetes": str(version),
                "feature_gates": str(gates),
                "runtime_config": str(served),
            }:
                changed = replace(self.spec, binaries=programs, kubernetes=version)
                await self._upgrade(replace(changed, feature_gates=gates, runtime_config=served), writer)
                await send(writer, result=True)
            case {"do": "plug" | "unplug" as action, "node": str(node), "slot": str(slot)}:
                await self.processes.plug(node, slot, action == "plug")
                await send(writer, result=True)
            case {"do": "kill_devices" | "serve_devices" as action, "node": str(node)}:
                await self._device_server(self.topology.node(node), serve=action == "serve_devices")
                await send(writer, result=True)
            case {"do": "ask_devices", "node": str(node), "content": dict(content)}:
                server = self.topology.node(node)
                await send(writer, result=await self.processes.ask_device_server(server, content))
            case _:
                raise ValueError(f"unknown request: {json.dumps(request)[:200]}")

    async def _upgrade(self, spec: ClusterSpec, writer: asyncio.StreamWriter) -> None:
        """Replace the control plane; an empty event shows the client that it goes on. After an error it has failed."""
        work = asyncio.create_task(self.processes.upgrade(spec))
        try:
            while not (await asyncio.wait([work], timeout=_SIGN_OF_LIFE_SECONDS))[0]:
                await send(writer, event={})
            await work
        except StepError as error:
            self._fail(f"upgrade to Kubernetes {spec.kubernetes}: {error}")
            raise
        finally:
            work.cancel()
        self.spec = spec
        spec.save(self.paths.spec)

    async def _device_server(self, node: Node, *, serve: bool) -> None:
        """Kill the device server of ``node``, as a crash would, or start it again if it has ended."""
        process = self.processes.children[f"devices-{node.name}"].process
        if serve and process.returncode is not None:
            await self.processes.start_device_server(node)
        elif not serve and process.returncode is None:
            process.kill()
            await process.wait()

    async def _follow(self, writer: asyncio.StreamWriter) -> None:
        """Send the events of the start, including past ones, until it has ended.

        An empty event shows a client that a long step goes on.
        """
        sent = 0
        while True:
            async with self._changed:
                if sent == len(self._events) and self.state == "starting":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), _SIGN_OF_LIFE_SECONDS)
                events, over = self._events[sent:], self.state != "starting"
            for event in events if events or over else [{}]:
                await send(writer, event=event)
            sent += len(events)
            if over:
                break
        await send(writer, result={"state": self.state, "reason": self.reason, "golden": self._golden_failed})

    def _internet(self) -> str:
        if not self.spec.internet:
            return "off"
        return "on" if self.processes.internet else "ended"

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "topology": str(self.topology.path),
            "kubernetes": self.spec.kubernetes,
            "state": self.state,
            "reason": self.reason,
            "step": self._step.name if self._step and self.state == "starting" else "",
            "started": self.started,
            "stays": self._stay,
            "internet": self._internet(),
            "holders": list(self._holders.values()),
            "stopped guests": self._stopped_guests,
            "processes": [asdict(state) for state in self.processes.children.states()],
        }


@click.command("supervisor", context_settings=command_line.SETTINGS)
@click.argument("file", metavar="SPEC", type=click.Path(dir_okay=False, path_type=Path))
def supervisor(file: Path) -> None:
    """Run the cluster of SPEC, the spec.json that the launcher wrote, until it is told to stop."""
    spec = ClusterSpec.load(file)
    timeouts.use_profile(spec.timeout_factor)
    # Sockets are on a file system of this mount namespace, so that they end with it.
    run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", spec.paths.sockets], timeout=Timeout.MOUNT.seconds)
    # A socket's path has at most 107 bytes: relative to this folder it is short.
    os.chdir(spec.paths.sockets)
    asyncio.run(Supervisor(spec).run())


def main(argv: Sequence[str] | None = None) -> int:
    """Run a cluster; exit code 1 for a step that failed, 2 for bad usage."""
    return command_line.run(supervisor, argv)


if __name__ == "__main__":
    sys.exit(main())
