"""A control plane whose components are processes of this machine."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from mock_device.lab.base.processes import Children
from mock_device.lab.base.spec import ClusterSpec
from mock_device.lab.controlplane.addresses import HOST_ADDRESS
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import Component, wait_ready
from mock_device.lab.controlplane.controlplane import PROXY_NODE, ControlPlane
from mock_device.lab.controlplane.pki import Pki, create_pki
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.lab.guest.node_files import node_files
from mock_device.topology import Node, Topology


class HostPlace:
    """The default: etcd, API server, controllers, scheduler, kube-proxy and CoreDNS beside the supervisor."""

    address = HOST_ADDRESS

    def __init__(self, spec: ClusterSpec, topology: Topology, children: Children) -> None:
        self._spec = spec
        self._topology = topology
        self._children = children
        self._data = spec.paths.data / "control-plane"
        self._components: list[str] = []
        self._late: list[Component] = []

    def create_pki(self) -> Pki:
        return create_pki(self._spec.paths.pki, [(node.name, node.address) for node in self._topology.nodes])

    def pki(self) -> Pki:
        return Pki(self._spec.paths.pki)

    def node_files(self, node: Node, number: int, keys: SshKeys) -> Sequence[GuestFile]:
        spec = self._spec
        return node_files(node, number, self.pki(), keys, spec.feature_gates, spec.default_runtime, spec.kubelet_config)

    async def start(self) -> None:
        await self._start(PROXY_NODE, None)

    async def complete(self) -> None:
        await asyncio.gather(*(self._wait_ready(component) for component in self._late))

    async def restore(self, golden: Path) -> None:
        # A node of a restored cluster is registered from the start, with its address.
        await self._start(self._topology.nodes[0].name, golden)

    async def resumed(self) -> None:
        """The API server has answered since ``restore``."""

    async def _start(self, proxy_node: str, golden: Path | None) -> None:
        """Start all components; wait for those that the nodes need."""
        pki = self.pki()
        spec = self._spec
        plane = ControlPlane(
            Path(spec.binaries), self._data, pki, spec.feature_gates, proxy_node, spec.internet, spec.runtime_config
        )
        await asyncio.to_thread(plane.prepare)
        if golden:
            await asyncio.to_thread(shutil.copytree, golden / "control-plane", self._data, dirs_exist_ok=True)
        components = plane.components()
        self._components = [component.name for component in components]
        for component in components:
            if component.after == ("kube-apiserver",):
                continue
            await self._start_component(component)
            await self._wait_ready(component)
        if not golden:
            await asyncio.to_thread(bootstrap, pki, dns="coredns" in self._components)
        after = [component for component in components if component.after == ("kube-apiserver",)]
        for component in after:
            await self._start_component(component)
        await asyncio.gather(*(self._wait_ready(component) for component in after if component.needed_by_nodes))
        self._late = [component for component in after if not component.needed_by_nodes]

    async def _start_component(self, component: Component) -> None:
        await self._children.start(component.name, component.argv, cwd=self._spec.paths.data, env=component.env)

    async def _wait_ready(self, component: Component) -> None:
        await wait_ready(component, self._children[component.name])

    async def end(self) -> None:
        """End all components, etcd last and in order, because its data is saved."""
        for name in reversed(self._components):
            await self._children.end(name, signal.SIGTERM if name == "etcd" else signal.SIGKILL)

    def save(self, folder: Path) -> None:
        shutil.copytree(self._data / "etcd", folder / "control-plane" / "etcd")
        shutil.copytree(self._spec.paths.pki, folder / "pki")
