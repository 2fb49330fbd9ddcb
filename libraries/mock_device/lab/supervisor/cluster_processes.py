"""The processes that make a cluster, in the order in which they start."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mock_accel_server import control, control_client

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.processes import Child, Children
from mock_device.lab.base.spec import Access, ClusterSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.sshkeys import SshKeys, create_ssh_keys, known_hosts
from mock_device.lab.guest import guest, link
from mock_device.lab.guest.accelerator import emulated_vcpus
from mock_device.lab.guest.monitor import Monitor, MonitorError, SilentError
from mock_device.lab.supervisor import internet, network, registry, saving
from mock_device.lab.supervisor.host_place import HostPlace
from mock_device.lab.supervisor.node_place import NodePlace
from mock_device.lab.supervisor.place import Place
from mock_device.lab.supervisor.saving import set_clock
from mock_device.topology import Node, Topology

_KEY_BYTES = 32


class Step(NamedTuple):
    """A part of a cluster's start."""

    name: str
    work: Callable[[], Awaitable[None]]
    golden: bool = False
    """Whether it reads the golden cluster, which may then be the cause of a failure."""


class ClusterProcesses:
    """Network, certificates, guests, device servers and control plane of one cluster."""

    def __init__(
        self,
        spec: ClusterSpec,
        topology: Topology,
        on_exit: Callable[[Child], None],
        on_stop: Callable[[str, str], None],
    ) -> None:
        """``on_exit`` gets a child that has ended, ``on_stop`` a node whose guest QEMU stopped, and QEMU's state."""
        self._spec = spec
        self._paths = spec.paths
        self._topology = topology
        self._on_stop = on_stop
        self._watches: list[asyncio.Task[None]] = []
        self._monitors = {node.name: Monitor(node) for node in topology.nodes}
        self._links: list[asyncio.Server] = []
        self._golden = Path(spec.golden) if spec.golden else None
        self.children = Children(spec.paths.logs, on_exit)
        self._place: Place = HostPlace(spec, topology, self.children)
        if spec.k3s:
            self._place = NodePlace(spec, spec.k3s, topology, self.children)

        self.internet = spec.internet
        """Whether guests reach the outside; False after passt has ended."""

    @property
    def api_address(self) -> str:
        """Address of the API server in the cluster's network."""
        return self._place.address

    def steps(self) -> list[Step]:
        """Steps that start a cluster. Guests start before the control plane because they take longest."""
        restored = self._golden is not None
        first = [
            Step("network of the cluster", self._network),
            Step("registry", self._registry),
            Step("certificates and keys", self._certificates, golden=restored),
            Step("device servers", self._device_servers),
            Step("disks of the guests", self._disks, golden=restored),
            # Of the golden cluster they read only the disks, which the step before has opened.
            Step("guests", self._guests),
        ]
        if restored:
            return [
                *first,
                Step("control plane, and memory of the guests", self._restore, golden=True),
                Step("resume of the guests", self._resume, golden=True),
            ]
        return [*first, Step("control plane", self._place.start), Step("services", self._place.complete)]

    def monitor(self, node: str) -> Monitor:
        """QEMU's monitor of ``node``; KeyError names the nodes there are."""
        return self._monitors[self._topology.node(node).name]

    async def look(self, command: str, timeout: float) -> dict[str, dict[str, Any]]:
        """Send a QMP command to all guests at once; their answers within ``timeout`` seconds, by node.

        An answer is ``{"return": …}``, or ``{"error": why, "silent": whether it was late}``.
        """

        async def ask(monitor: Monitor) -> dict[str, Any]:
            try:
                return {"return": await monitor.look(command, timeout)}
            except MonitorError as error:
                return {"error": str(error), "silent": isinstance(error, SilentError)}

        answers = await asyncio.gather(*map(ask, self._monitors.values()))
        return dict(zip(self._monitors, answers, strict=True))

    async def plug(self, node: str, root_port: str, plug: bool) -> None:
        """Hot-plug or unplug the slot behind ``root_port`` of ``node``."""
        guest_node = self._topology.node(node)
        for slot in guest_node.slots:
            if slot.root_port == root_port:
                monitor = self._monitors[guest_node.name]
                await (monitor.plug(slot, Path(guest_node.name)) if plug else monitor.unplug(slot))
                return
        ports = ", ".join(slot.root_port for slot in guest_node.slots)
        raise MonitorError(f"{node} has no slot behind root port {root_port!r}; it has {ports}")

    async def _network(self) -> None:
        await asyncio.to_thread(network.set_up, self._topology)
        for number, node in enumerate(self._topology.nodes, 1):
            folder = self._paths.sockets / node.name
            folder.mkdir()
            # Relative: a socket's path has at most 107 bytes.
            path = Path(node.name, guest.NETWORK_SOCKET)
            self._links.append(await link.serve(path, network.guest_device(number)))

        if self._spec.internet:
            await internet.connect(self._spec.internet_fd, self._internet_ended)

    def _internet_ended(self) -> None:
        self.internet = False
        print(f"passt ended, guests no longer reach the outside; log: {self._paths.passt_log}", flush=True)

    async def _registry(self) -> None:
        program = Path(self._spec.registry)
        await registry.start(self.children, program, self._paths.data, internet=self._spec.internet)

    async def _certificates(self) -> None:
        await asyncio.to_thread(self._make_certificates)

    def _make_certificates(self) -> None:
        if self._golden:
            shutil.copytree(self._golden / "pki", self._paths.pki)
            pki, keys = self._place.pki(), SshKeys(self._paths.pki)
        else:
            pki = self._place.create_pki()
            keys = create_ssh_keys(self._paths.pki, [node.name for node in self._topology.nodes])
        access = Access.load(self._paths.access)
        # A new one at each start: saved clusters have no devices. In digits, so that a shell can pass it on.
        write_file(self._paths.device_key, secrets.token_hex(_KEY_BYTES), 0o600)
        hosts = known_hosts(("127.0.0.1", port, keys.host(name)) for name, port in access.ssh_ports.items())
        write_file(self._paths.pki / "known_hosts", hosts)
        write_kubeconfig(self._paths.kubeconfig, pki.identity("admin"), f"https://127.0.0.1:{access.api_port}")
        for number, node in enumerate(self._topology.nodes, 1):
            files = self._place.node_files(node, number, keys)
            unit = guest.network_unit(self._topology, number)
            values = guest.credentials(node, unit, keys.user.public_line(), files)
            guest.write_credentials(self._credentials(node), values)

    def _credentials(self, node: Node) -> Path:
        return self._paths.data / f"{node.name}.credentials"

    async def _device_servers(self) -> None:
        await asyncio.gather(*(self.start_device_server(node) for node in self._topology.nodes if node.functions))

    async def start_device_server(self, node: Node) -> None:
        """Start the process that serves all devices of ``node``, and wait until every socket listens."""
        argv = [sys.executable, "-m", "mock_accel_server", "--topology", str(self._paths.topology)]
        argv += ["--node", node.name, "--socket-dir", node.name, "--key-file", str(self._paths.device_key)]
        name = f"devices-{node.name}"
        child = await self.children.start(name, argv, cwd=self._paths.sockets, stdout=asyncio.subprocess.PIPE)
        output = child.process.stdout
        assert output is not None
        try:
            line = await asyncio.wait_for(output.readline(), Timeout.DEVICE_SERVER.seconds)
        except TimeoutError:
            line = b""
        if not line.startswith(b"ready\t"):
            raise StepError(f"{name}: expected 'ready', found {line.decode(errors='replace')!r}", child.log)

    async def ask_device_server(self, node: Node, content: dict[str, Any]) -> dict[str, Any]:
        """Send a request to the control socket of a node's device server. Raises StepError if it is not answered."""
        name = f"devices-{node.name}"
        child = self.children[name]
        if child.process.returncode is not None:
            raise StepError(f"{name} has ended; start the cluster again: lab down && lab up", child.log)
        path = Path(node.name, control.NAME)
        seconds = Timeout.DEVICE_ANSWER.seconds
        try:
            return await asyncio.to_thread(control_client.request, path, content, seconds)
        except control_client.ControlError as error:
            raise StepError(f"device server of {error}") from error

    def _disk(self, node: Node) -> Path:
        return self._paths.data / f"{node.name}.qcow2"

    async def _disks(self) -> None:
        for node in self._topology.nodes:
            disk = self._disk(node)
            image = self._spec.image
            base = (str(self._golden / disk.name), "qcow2") if self._golden else (image.disk, image.disk_format)
            create = ["create", "-q", "-f", "qcow2", "-b", base[0], "-F", base[1]]
            await asyncio.to_thread(
                run,
                [*self._spec.qemu_img, *create, str(disk)],
                timeout=Timeout.QEMU_IMG.seconds,
                env=self._spec.qemu.env,
            )

    async def _guests(self) -> None:
        for number, node in enumerate(self._topology.nodes, 1):
            argv = guest.argv(
                node,
                number,
                self._spec.qemu,
                self._spec.image,
                self._disk(node),
                self._paths.logs / f"console-{node.name}.log",
                sorted(self._credentials(node).iterdir()),
                vcpus=emulated_vcpus(len(self._topology.nodes)),
                restored=self._golden is not None,
            )
            await self.children.start(f"qemu-{node.name}", argv, cwd=self._paths.sockets, env=self._spec.qemu.env)
        for node in self._topology.nodes:
            monitor = self._monitors[node.name]
            await monitor.connect(Path(node.name, "qmp.sock"))
            watch = monitor.watch(partial(self._on_stop, node.name))
            self._watches.append(asyncio.get_running_loop().create_task(watch))

    async def _restore(self) -> None:
        assert self._golden is not None
        loads = (monitor.load(self._golden / f"{node}.ram") for node, monitor in self._monitors.items())
        await asyncio.gather(self._place.restore(self._golden), *loads)

    async def _resume(self) -> None:
        """Resume the guests and set their clocks."""
        await asyncio.gather(*(monitor.execute("cont") for monitor in self._monitors.values()))
        await asyncio.gather(*(set_clock(Path(node, "clock.sock")) for node in self._monitors))
        await self._place.resumed()

    async def upgrade(self, spec: ClusterSpec) -> None:
        """Replace the control plane by that of ``spec``, which differs in its programs and feature gates only."""
        await self._place.upgrade(spec)
        self._spec = spec

    async def save(self, folder: Path) -> None:
        """Stop guests and control plane, and save them to ``folder``. Raises MonitorError, OSError."""
        addresses = {node.address for node in self._topology.nodes}
        await saving.save(self.children, self._place, self._monitors, self._paths.data, folder, addresses)
