"""Fixtures: a node in a folder and an API server on loopback."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import klog
from mock_accel_dra.api import Client
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.publisher import Publisher
from mock_accel_dra.settings import AgentSettings

from mock_device.topology import Node, load

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def node() -> Node:
    """The first node of the default topology."""
    return load(PROJECT / "variables" / "topologies" / "numa-cluster.yaml").nodes[0]


@pytest.fixture
def sysfs(tmp_path: Path) -> SysfsTree:
    """sysfs without devices."""
    return SysfsTree(tmp_path / "sys")


@pytest.fixture
def plug(sysfs: SysfsTree, node: Node) -> Callable[..., SysfsTree]:
    """Function that adds the devices of ``node`` to ``sysfs``, including VFs if ``vfs`` is true."""

    def plug(vfs: bool = False) -> SysfsTree:
        addresses = {function.name: function.bdf for function in node.functions}
        buses = {slot.bus: numa.bus for numa in node.numa_nodes for slot in numa.slots}
        for function in node.functions:
            if function.is_vf and not vfs:
                continue
            sysfs.add(
                function.name,
                function.bdf,
                root_bus=buses[int(function.bdf[5:7], 16)],
                uuid=function.uuid,
                memory=function.memory,
                numa_node=function.numa_node,
                capabilities=function.capabilities,
                physfn=addresses[function.parent] if function.parent else None,
                total_vfs=function.total_vfs,
            )
        return sysfs

    return plug


@pytest.fixture
def api(node: Node) -> Iterator[FakeApiServer]:
    """An API server with the object of ``node``."""
    server = FakeApiServer()
    server.add_node(node.name)
    yield server
    server.close()


@pytest.fixture
def node_less_api() -> Iterator[FakeApiServer]:
    """An API server without objects; the test may close it."""
    server = FakeApiServer()
    yield server
    server.close()


@pytest.fixture
def publisher(api: FakeApiServer, node: Node) -> Publisher:
    return Publisher(Client(api.url), node.name)


@pytest.fixture
def devices(plug: Callable[..., SysfsTree]) -> tuple[Device, ...]:
    """PFs only."""
    return scan(plug().root).devices


@pytest.fixture
def with_vfs(sysfs: SysfsTree) -> tuple[Device, ...]:
    """One PF with two VFs, and one without."""
    sysfs.add("mock0", "0000:11:00.0", total_vfs=2)
    for number in range(2):
        sysfs.add(f"mock0_vf{number}", f"0000:11:00.{number + 1}", physfn="0000:11:00.0")
    sysfs.add("mock1", "0000:12:00.0")
    return scan(sysfs.root).devices


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="dra") as folder:
        yield Path(folder)


@pytest.fixture
def settings(plug: Callable[..., SysfsTree], run_dir: Path, node: Node) -> AgentSettings:
    """Settings of a node agent that scans often."""
    return AgentSettings(
        node_name=node.name,
        sysfs_root=plug().root,
        cdi_root=run_dir / "cdi",
        plugin_dir=run_dir / "p",
        registry_dir=run_dir / "r",
        rescan_interval=0.2,
        health_port=0,
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Log output at the highest verbosity."""
    stream = io.StringIO()
    klog.configure(klog.RESOURCE, stream)
    yield stream
    klog.configure(klog.STATE)
