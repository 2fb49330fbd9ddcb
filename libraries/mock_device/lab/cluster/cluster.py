"""A cluster as its clients see it, whatever its make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mock_device.driver.description import Driver
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.ssh import JumpHost
from mock_device.topology import Topology


class Capability(StrEnum):
    """What a cluster offers to suites and tools."""

    API = "api"
    """A kubeconfig with the rights of an administrator."""
    NODES = "nodes"
    """A shell on each node, by SSH."""
    TOPOLOGY = "topology"
    """The nodes' devices: declared in a file, or discovered from the nodes."""
    HOTPLUG = "hotplug"
    """Devices can be plugged and unplugged."""
    DEVICE_SERVER = "device-server"
    """The processes that serve the devices can be killed and started again."""
    POWER = "power"
    """Nodes can lose their power."""
    CONSOLE = "console"
    """Each node's console is a log file."""


ALWAYS = frozenset({Capability.API, Capability.NODES, Capability.TOPOLOGY})
"""Capabilities of every cluster."""


class MissingCapabilityError(StepError):
    """The cluster lacks capabilities."""

    def __init__(self, cluster: str, missing: Collection[Capability]) -> None:
        names = ", ".join(sorted(missing))
        super().__init__(f"cluster {cluster!r} has no {names}, which only clusters have whose nodes the lab runs")


@dataclass(frozen=True)
class NodeAccess:
    """How to reach a node by SSH."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path
    jump: JumpHost | None = None
    """The server through which the node is reached; None if it is reached directly."""
    sudo: bool = False
    """Whether ``user`` gets root's rights by ``sudo``, without a password."""


@dataclass(frozen=True)
class GuestAnswer:
    """QEMU's answer to a QMP command."""

    value: Any = None
    error: str = ""
    """Why there is no ``value``."""
    silent: bool = False
    """Whether QEMU did not answer in time."""


class Guests(ABC):
    """The nodes of a cluster as QEMU guests of the lab, with their device servers."""

    accelerator: str
    """QEMU's accelerator, ``kvm`` or ``tcg``."""
    registry_port: int
    """TCP port of the cluster's registry on this machine's loopback."""
    device_key: Path
    """File with the secret with which the devices sign nonces (vfio-user/DATASHEET.md, IDENTIFY)."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """State of the supervisor and its processes."""

    @abstractmethod
    def qmp(self, node: str, command: str, **arguments: Any) -> Any:
        """Run a QMP command in the monitor of a node's guest and return its result."""

    @abstractmethod
    def look(self, command: str, seconds: float) -> dict[str, GuestAnswer]:
        """Send a read-only QMP command to all guests in parallel; answers by node.

        A guest that has not answered after ``seconds`` is silent.
        """

    @abstractmethod
    def plug(self, node: str, root_port: str) -> None:
        """Hot-plug the devices of a slot, named by its root port (``rp11``)."""

    @abstractmethod
    def unplug(self, node: str, root_port: str) -> None:
        """Hot-unplug the devices of a slot and wait until the guest has released them."""

    @abstractmethod
    def kill_device_server(self, node: str) -> None:
        """Kill the process that serves the devices of ``node``; they stay plugged but no longer respond."""

    @abstractmethod
    def start_device_server(self, node: str) -> None:
        """Start the device server of ``node`` again; unplug plugged devices and plug them again to reconnect them."""

    @abstractmethod
    def ask_device_server(self, node: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request to the control socket of the device server of ``node`` (vfio-user/README.md); its answer.

        Raises StepError if the server refuses the request or does not answer.
        """


class Cluster(ABC):
    """A cluster that this process holds until ``release``, or until the process ends."""

    name: str
    topology: Topology
    capabilities: frozenset[Capability] = ALWAYS
    default_runtime: str = ""
    """OCI runtime that the profile makes the nodes' default; empty if the nodes choose."""
    loads_module: bool = True
    """Whether the lab, or an operator that it knows, loads the kernel module; else the nodes do so themselves."""
    vfs_before_tests: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    """Number of enabled VFs of PFs, by node and PF, that tests must restore; 0 for all others."""
    drivers: Sequence[Driver] = ()
    """DRA drivers that it has, the first of them by default."""
    look_seconds: float
    """Seconds that interactive commands wait for a node that does not answer."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """Kubeconfig of the cluster administrator, for use on this machine."""

    @property
    @abstractmethod
    def log_dir(self) -> Path:
        """Folder with the logs of everything that the lab runs for the cluster."""

    @abstractmethod
    def node(self, name: str) -> NodeAccess:
        """How to reach node ``name``. Raises KeyError with the names of all nodes."""

    @property
    def guests(self) -> Guests:
        """The nodes as guests of the lab. Raises MissingCapabilityError where the lab does not run them."""
        raise MissingCapabilityError(self.name, frozenset(Capability) - self.capabilities)

    def check_offers(self, needed: Collection[Capability]) -> None:
        """Raise MissingCapabilityError if the cluster lacks some of the ``needed`` capabilities."""
        if missing := set(needed) - self.capabilities:
            raise MissingCapabilityError(self.name, missing)

    @abstractmethod
    def record_drivers(self, found: Sequence[Driver]) -> None:
        """Remember that the cluster has the drivers ``found``, the first of them by default."""

    @abstractmethod
    def report_activity(self, who: str) -> None:
        """Show what the holder is doing in ``lab status`` and ``lab clusters``."""

    @abstractmethod
    def release(self) -> None:
        """Release the cluster."""
