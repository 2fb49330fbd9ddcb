"""Fixtures: one guest that runs the image's loader and the module, with devices from the default topology."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import topology

sys.path.insert(0, str(Path(__file__).parent))  # for module_guest, initramfs, device_servers

from device_servers import ServerProcess
from initramfs import write_initramfs
from module_guest import ModuleGuest

PROJECT = Path(__file__).resolve().parents[2]
TOPOLOGY = PROJECT / "variables/topologies/numa-cluster.yaml"
_NUMA_NODE_MEMORY = 192 << 20  # enough for a kernel and a shell


@pytest.fixture(scope="session")
def node() -> topology.Node:
    """The first node of the default topology, with less memory."""
    node = topology.load(TOPOLOGY).nodes[0]
    return replace(node, numa_nodes=tuple(replace(numa, memory=_NUMA_NODE_MEMORY) for numa in node.numa_nodes))


@pytest.fixture(scope="session")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("k")


@pytest.fixture(scope="session")
def guest(node: topology.Node, sockets: Path) -> Iterator[ModuleGuest]:
    """A booted guest with its device servers: nothing is plugged and the module is not loaded yet."""
    from lab import deploy
    from lab.node_image import build_node_image
    from lab.qemu_root import ensure_qemu

    initrd = sockets / "initrd"
    write_initramfs(initrd, deploy.kmod_image())
    with ExitStack() as stack:
        options = ["--topology", str(TOPOLOGY), "--node", node.name, "--socket-dir", str(sockets)]
        stack.callback(ServerProcess(sockets / "servers.log", options).stop)
        guest = ModuleGuest(ensure_qemu(), build_node_image().kernel, initrd, node, sockets)
        stack.callback(guest.close)
        guest.boot()
        yield guest
