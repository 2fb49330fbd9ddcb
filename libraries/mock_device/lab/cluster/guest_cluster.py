"""A running cluster whose nodes are guests of the lab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mock_device.driver.description import Driver
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec, DamagedFileError
from mock_device.lab.cluster import drivers
from mock_device.lab.cluster.cluster import Capability, Cluster, GuestAnswer, Guests, NodeAccess
from mock_device.lab.cluster.control import Control
from mock_device.lab.cluster.launcher import launch, wait_ended
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.guest.accelerator import look_seconds
from mock_device.lab.kube import waits
from mock_device.topology import Topology


class LabGuests(Guests):
    """The guests of a cluster, through its supervisor."""

    def __init__(
        self, control: Control, topology: Topology, accelerator: str, registry_port: int, device_key: Path
    ) -> None:
        self._control = control
        self._topology = topology
        self.accelerator = accelerator
        self.registry_port = registry_port
        self.device_key = device_key

    def status(self) -> dict[str, Any]:
        result: dict[str, Any] = self._control.request("status")
        return result

    def qmp(self, node: str, command: str, **arguments: Any) -> Any:
        return self._control.request("qmp", node=self._topology.node(node).name, execute=command, arguments=arguments)

    def look(self, command: str, seconds: float) -> dict[str, GuestAnswer]:
        answers = self._control.request("look", execute=command, seconds=seconds)
        return {
            node: GuestAnswer(answer.get("return"), answer.get("error", ""), answer.get("silent", False))
            for node, answer in answers.items()
        }

    def plug(self, node: str, root_port: str) -> None:
        self._control.request("plug", node=node, slot=root_port)

    def unplug(self, node: str, root_port: str) -> None:
        self._control.request("unplug", node=node, slot=root_port)

    def kill_device_server(self, node: str) -> None:
        self._control.request("kill_devices", node=node)

    def start_device_server(self, node: str) -> None:
        self._control.request("serve_devices", node=node)

    def ask_device_server(self, node: str, request: Mapping[str, Any]) -> dict[str, Any]:
        name = self._topology.node(node).name
        answer: dict[str, Any] = self._control.request("ask_devices", node=name, content=dict(request))
        return answer


class GuestCluster(Cluster):
    """A running cluster of guests, held by this process until ``release`` or the end of the process."""

    capabilities = frozenset(Capability)

    def __init__(self, control: Control, *, ends_here: bool = False) -> None:
        """The cluster at the other end of ``control``. Raises DamagedFileError."""
        self._control = control
        self._ends_here = ends_here
        self.name = control.name
        self._paths = ClusterPaths.of(control.name)
        spec = ClusterSpec.load(self._paths.spec)
        timeouts.use_profile(spec.timeout_factor)
        self.topology = spec.load_topology()
        try:
            self.drivers = drivers.use_of_cluster(self._paths.drivers, self.topology)
        except ValueError as error:
            raise DamagedFileError(self._paths.drivers, str(error)) from error
        self.default_runtime = spec.default_runtime
        self.look_seconds = look_seconds(spec.qemu.accelerator)
        access = Access.load(self._paths.access)
        accelerator, key = spec.qemu.accelerator, self._paths.device_key
        self._guests = LabGuests(control, self.topology, accelerator, access.registry_port, key)
        self._ports = access.ssh_ports
        if missing := {node.name for node in self.topology.nodes} - self._ports.keys():
            raise DamagedFileError(self._paths.access, f"expected an SSH port of {', '.join(sorted(missing))}")

    @property
    def kubeconfig(self) -> Path:
        return self._paths.kubeconfig

    @property
    def log_dir(self) -> Path:
        """Folder with the guests' consoles and the logs of all processes."""
        return self._paths.logs

    def node(self, name: str) -> NodeAccess:
        node = self.topology.node(name)
        keys = self._paths.pki
        return NodeAccess(
            node.name, "127.0.0.1", self._ports[node.name], "root", keys / "id_ed25519", keys / "known_hosts"
        )

    @property
    def guests(self) -> Guests:
        return self._guests

    def alive(self) -> bool:
        """Whether the supervisor answers and all processes that it watches run."""
        try:
            return bool(self._guests.status()["state"] == "running")
        except StepError:
            return False

    def record_drivers(self, found: Sequence[Driver]) -> None:
        drivers.write(self._paths.drivers, found)
        self.drivers = found

    @contextmanager
    def failing_fast(self) -> Iterator[None]:
        """End waits for Kubernetes objects in this block as soon as the cluster has failed.

        Raises StepError with the supervisor's reason, also in place of an error that only mentions a consequence.
        """
        try:
            with waits.checked(self._check):
                yield
        except StepError as error:
            try:
                self._check()
            except StepError as cause:
                raise cause from error
            raise

    def _check(self) -> None:
        if (status := self._guests.status())["state"] == "failed":
            raise StepError(f"cluster {self.name!r} has failed: {status['reason']}", self.log_dir)

    def report_activity(self, who: str) -> None:
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


def start(name: str, topology: Topology, profile: Profile, who: str, *, golden: Path | None = None) -> GuestCluster:
    """Start a cluster that ends with this process unless ``GuestCluster.stay`` is called.

    See ``lab.cluster.launcher.launch``.
    """
    return GuestCluster(launch(name, topology, profile, who, golden=golden), ends_here=True)
