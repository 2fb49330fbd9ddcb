"""A running cluster as its users see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec, DamagedFileError
from mock_device.lab.cluster.control import Control
from mock_device.lab.cluster.launcher import launch, wait_ended
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.guest.accelerator import look_seconds
from mock_device.topology import Topology


@dataclass(frozen=True)
class NodeAccess:
    """How to reach a node by SSH, from this machine's loopback."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path


@dataclass(frozen=True)
class GuestAnswer:
    """What QEMU answered to a QMP command."""

    value: Any = None
    error: str = ""
    """Why there is no ``value``."""
    silent: bool = False
    """Whether there was no answer in time."""


class Cluster:
    """A running cluster that this process holds; it is given back by ``release`` or by the end of the process."""

    def __init__(self, control: Control, *, ends_here: bool = False) -> None:
        """The cluster at the other end of ``control``. Raises DamagedFileError."""
        self._control = control
        self._ends_here = ends_here
        self.name = control.name
        self._paths = ClusterPaths.of(control.name)
        spec = ClusterSpec.load(self._paths.spec)
        self.topology: Topology = spec.load_topology()
        self.accelerator = spec.qemu.accelerator
        """QEMU's, ``kvm`` or ``tcg``."""
        self._ports = Access.load(self._paths.access).ssh_ports
        if missing := {node.name for node in self.topology.nodes} - self._ports.keys():
            raise DamagedFileError(self._paths.access, f"expected an SSH port of {', '.join(sorted(missing))}")

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a cluster administrator, for use on this machine."""
        return self._paths.kubeconfig

    @property
    def log_dir(self) -> Path:
        """Consoles of the guests and logs of all processes."""
        return self._paths.logs

    def node(self, name: str) -> NodeAccess:
        """How to reach node ``name``; KeyError names the nodes there are."""
        node = self.topology.node(name)
        keys = self._paths.pki
        return NodeAccess(
            node.name, "127.0.0.1", self._ports[node.name], "root", keys / "id_ed25519", keys / "known_hosts"
        )

    def qmp(self, node: str, command: str, **arguments: Any) -> Any:
        """Run a QMP command in the monitor of a node's guest and return its result."""
        return self._control.request("qmp", node=self.topology.node(node).name, execute=command, arguments=arguments)

    def look(self, command: str, seconds: float | None = None) -> dict[str, GuestAnswer]:
        """What each node's guest answers to a QMP command that changes nothing, all asked at the same time.

        One that has not answered after ``seconds`` (default: ``look_seconds``) is silent.
        """
        answers = self._control.request("look", execute=command, seconds=seconds or self.look_seconds)
        return {
            node: GuestAnswer(answer.get("return"), answer.get("error", ""), answer.get("silent", False))
            for node, answer in answers.items()
        }

    @property
    def look_seconds(self) -> float:
        """How long a person who looks at this cluster waits for a node that does not answer."""
        return look_seconds(self.accelerator)

    def plug(self, node: str, root_port: str) -> None:
        """Hot-plug the devices of a slot, named by its root port (``rp11``)."""
        self._control.request("plug", node=node, slot=root_port)

    def unplug(self, node: str, root_port: str) -> None:
        """Hot-unplug the devices of a slot and wait until the guest has let go of them."""
        self._control.request("unplug", node=node, slot=root_port)

    def kill_device_server(self, node: str) -> None:
        """Kill the process that serves the devices of ``node``; they stay plugged and answer nothing any more."""
        self._control.request("kill_devices", node=node)

    def start_device_server(self, node: str) -> None:
        """Start it again; devices that are plugged must be unplugged and plugged again to reach it."""
        self._control.request("serve_devices", node=node)

    def supervisor_status(self) -> dict[str, Any]:
        """What the supervisor says of itself and its processes."""
        result: dict[str, Any] = self._control.request("status")
        return result

    def alive(self) -> bool:
        """Whether the supervisor answers, and all that it watches runs."""
        try:
            return bool(self.supervisor_status()["state"] == "running")
        except StepError:
            return False

    def says(self, who: str) -> None:
        """Tell the supervisor what its holder does now, for those who watch."""
        self._control.request("hold", who=who)

    def save(self, folder: Path) -> None:
        """Save guests and control plane to ``folder``; the cluster has stopped then. No device may be plugged."""
        self._control.request("save", folder=str(folder))

    def stay(self) -> None:
        """Let the cluster live on when nobody holds it, until ``lab down``."""
        self._control.request("stay")
        self._ends_here = False

    def release(self) -> None:
        """Give the cluster back. One that was started by this process, and not told to stay, has ended then."""
        self._control.close()
        if self._ends_here:
            wait_ended(self.name)


def start(name: str, topology: Topology, profile: Profile, who: str, *, golden: Path | None = None) -> Cluster:
    """Start a cluster, which ends with this process unless it is told to stay; see ``lab.cluster.launcher.launch``."""
    return Cluster(launch(name, topology, profile, who, golden=golden), ends_here=True)
