"""A running cluster as its clients see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec, DamagedFileError
from mock_device.lab.cluster.control import Control
from mock_device.lab.cluster.launcher import launch, wait_ended
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.cluster.ssh import JumpHost
from mock_device.lab.guest.accelerator import look_seconds
from mock_device.topology import Topology


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


class Cluster:
    """A running cluster held by this process until ``release`` or the end of the process."""

    def __init__(self, control: Control, *, ends_here: bool = False) -> None:
        """The cluster at the other end of ``control``. Raises DamagedFileError."""
        self._control = control
        self._ends_here = ends_here
        self.name = control.name
        self._paths = ClusterPaths.of(control.name)
        spec = ClusterSpec.load(self._paths.spec)
        self.topology: Topology = spec.load_topology()
        self.accelerator = spec.qemu.accelerator
        """QEMU's accelerator, ``kvm`` or ``tcg``."""
        self._ports = Access.load(self._paths.access).ssh_ports
        if missing := {node.name for node in self.topology.nodes} - self._ports.keys():
            raise DamagedFileError(self._paths.access, f"expected an SSH port of {', '.join(sorted(missing))}")

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the cluster administrator, for use on this machine."""
        return self._paths.kubeconfig

    @property
    def log_dir(self) -> Path:
        """Folder with the guests' consoles and the logs of all processes."""
        return self._paths.logs

    def node(self, name: str) -> NodeAccess:
        """How to reach node ``name``. Raises KeyError with the names of all nodes."""
        node = self.topology.node(name)
        keys = self._paths.pki
        return NodeAccess(
            node.name, "127.0.0.1", self._ports[node.name], "root", keys / "id_ed25519", keys / "known_hosts"
        )

    def qmp(self, node: str, command: str, **arguments: Any) -> Any:
        """Run a QMP command in the monitor of a node's guest and return its result."""
        return self._control.request("qmp", node=self.topology.node(node).name, execute=command, arguments=arguments)

    def look(self, command: str, seconds: float | None = None) -> dict[str, GuestAnswer]:
        """Send a read-only QMP command to all guests in parallel; answers by node.

        A guest that has not answered after ``seconds`` (default: ``look_seconds``) is silent.
        """
        answers = self._control.request("look", execute=command, seconds=seconds or self.look_seconds)
        return {
            node: GuestAnswer(answer.get("return"), answer.get("error", ""), answer.get("silent", False))
            for node, answer in answers.items()
        }

    @property
    def look_seconds(self) -> float:
        """Seconds that interactive commands wait for a node that does not answer."""
        return look_seconds(self.accelerator)

    def plug(self, node: str, root_port: str) -> None:
        """Hot-plug the devices of a slot, named by its root port (``rp11``)."""
        self._control.request("plug", node=node, slot=root_port)

    def unplug(self, node: str, root_port: str) -> None:
        """Hot-unplug the devices of a slot and wait until the guest has released them."""
        self._control.request("unplug", node=node, slot=root_port)

    def kill_device_server(self, node: str) -> None:
        """Kill the process that serves the devices of ``node``; they stay plugged but no longer respond."""
        self._control.request("kill_devices", node=node)

    def start_device_server(self, node: str) -> None:
        """Start the device server of ``node`` again; unplug plugged devices and plug them again to reconnect them."""
        self._control.request("serve_devices", node=node)

    def supervisor_status(self) -> dict[str, Any]:
        """State of the supervisor and its processes."""
        result: dict[str, Any] = self._control.request("status")
        return result

    def alive(self) -> bool:
        """Whether the supervisor answers and all processes that it watches run."""
        try:
            return bool(self.supervisor_status()["state"] == "running")
        except StepError:
            return False

    def report_activity(self, who: str) -> None:
        """Tell the supervisor what the holder is doing, for ``lab status`` and ``lab clusters``."""
        self._control.request("hold", who=who)

    def save(self, folder: Path) -> None:
        """Save guests and control plane to ``folder`` and stop the cluster. No device may be plugged."""
        self._control.request("save", folder=str(folder))

    def stay(self) -> None:
        """Keep the cluster running until ``lab down``, also without a holder."""
        self._control.request("stay")
        self._ends_here = False

    def release(self) -> None:
        """Release the cluster. If this process started it and it need not ``stay``, wait until it has ended."""
        self._control.close()
        if self._ends_here:
            wait_ended(self.name)


def start(name: str, topology: Topology, profile: Profile, who: str, *, golden: Path | None = None) -> Cluster:
    """Start a cluster that ends with this process unless ``Cluster.stay`` is called.

    See ``lab.cluster.launcher.launch``.
    """
    return Cluster(launch(name, topology, profile, who, golden=golden), ends_here=True)
