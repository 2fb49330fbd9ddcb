"""State of a cluster that the steps of ``lab diagnose`` check; tests pass recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.diagnosis.folders import Folder
from mock_device.lab.cluster.kmm_state import KmmState
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.topology import Topology

Object = dict[str, Any]
NO_LOG = "no log: "
"""Prefix of the reason that replaces a log that cannot be read."""
WATCHED_SECONDS = 5.0
"""How long slices are watched for continual rewrites."""
ContainerKey = tuple[str, str, str]
"""Namespace, pod, container."""


@dataclass(frozen=True)
class Access:
    """A permission that a service account of the driver needs."""

    account: str
    verb: str
    group: str
    resource: str
    """With the subresource if there is one, such as ``resourceclaims/status``."""
    name: str = ""
    """Name of the only object concerned; empty for all."""

    def __str__(self) -> str:
        resource = f"{self.resource}{f'.{self.group}' if self.group else ''}"
        return f"{self.account} may not {self.verb} {resource}{f' {self.name}' if self.name else ''}"


@dataclass(frozen=True)
class Event:
    """A Warning event of a pod."""

    reason: str
    message: str


class Snapshot(Protocol):
    """Everything that steps may read. Objects are the API's JSON; mappings are by node unless stated otherwise."""

    @property
    def topology(self) -> Topology: ...
    @property
    def pod(self) -> str | None:
        """``namespace/name`` of the only pod whose claims are checked; None for all pods with claims."""

    @property
    def has_guests(self) -> bool:
        """Whether its nodes are guests of the lab; ``state``, ``guests``, ``servers`` and ``plugged`` need it."""

    @property
    def state(self) -> str:
        """State of the cluster as its supervisor reports it: ``running``, or another state with the reason."""

    @property
    def guests(self) -> Mapping[str, str]:
        """QEMU's run state."""

    @property
    def servers(self) -> Mapping[str, int | None]:
        """Exit code of the device server; None while it runs."""

    @property
    def silent(self) -> Mapping[str, str]:
        """Nodes whose devices cannot be read, with the reason: the node or one of its devices does not answer."""

    @property
    def clocks(self) -> Mapping[str, float]:
        """Seconds by which the node's clock is ahead of this machine's (negative: behind)."""

    @property
    def nodes(self) -> Mapping[str, Object]: ...
    @property
    def plugged(self) -> Mapping[str, Mapping[str, str]]:
        """PCI addresses of QEMU's mock accelerators, by name."""

    @property
    def devices(self) -> Sequence[NodeDevices]:
        """Devices of all nodes except ``silent`` ones."""

    @property
    def kmm(self) -> KmmState | None:
        """KMM's objects; None if pods of a DaemonSet load the kernel module."""

    @property
    def daemon_set(self) -> Object | None:
        """DaemonSet of the node agents; None if it does not exist."""

    @property
    def agents(self) -> Sequence[Object]:
        """Pods of the node agent, except those being deleted."""

    @property
    def agent_logs(self) -> Mapping[str, str]:
        """Ends of the node agents' logs since the cluster was started or restored."""

    @property
    def agent_metrics(self) -> Mapping[str, str]:
        """Metrics of the node agents, in Prometheus' text format."""

    @property
    def refused(self) -> Sequence[Access]:
        """Permissions of the driver's manifest that the API server does not grant."""

    @property
    def slices(self) -> Sequence[Object]: ...
    @property
    def rewrites(self) -> Mapping[str, int]:
        """Number of writes during WATCHED_SECONDS, by name, of the driver's pools that are rewritten continually."""

    @property
    def driver_pods(self) -> Sequence[Object]:
        """All pods of the driver's namespace, including those being deleted."""

    @property
    def controllers(self) -> Sequence[Object]:
        """Pods of the controller."""

    @property
    def device_classes(self) -> Sequence[Object]: ...
    @property
    def taint_rules(self) -> Sequence[Object]:
        """DeviceTaintRules; none if the API server does not serve them."""

    @property
    def claims(self) -> Sequence[Object]: ...
    @property
    def templates(self) -> Sequence[str]:
        """``namespace/name`` of each ResourceClaimTemplate."""

    @property
    def pods(self) -> Sequence[Object]:
        """Pods with claims or extended resources, except pods that have ended or are being deleted."""

    @property
    def events(self) -> Mapping[str, Sequence[Event]]:
        """Warnings about ``pods`` that do not run, oldest first, by ``namespace/name``."""

    @property
    def cdi_folders(self) -> Mapping[str, Folder]:
        """The CDI folder as the node sees it."""

    @property
    def agent_folders(self) -> Mapping[str, Folder]:
        """The CDI folder as the node agent sees it in its container."""

    @property
    def cdi_files(self) -> Sequence[CdiFile]: ...
    @property
    def configs(self) -> Mapping[str, str]:
        """Configurations of the container runtimes (TOML)."""

    @property
    def default_runtime(self) -> str:
        """OCI runtime that the cluster's profile makes the default; empty if it names none."""

    @property
    def runtimes(self) -> Mapping[str, NodeRuntime]: ...

    def has_image(self, node: str, image: str) -> bool:
        """Whether the container runtime of ``node`` has the image with this full name."""

    def view(self, container: ContainerKey) -> str:
        """Output of ``checks.objects.pods.probe`` in a container. Raises CheckError if it cannot be run there."""


def answering(snapshot: Snapshot) -> Topology:
    """The topology without ``silent`` nodes, about which nothing else is known."""
    nodes = tuple(node for node in snapshot.topology.nodes if node.name not in snapshot.silent)
    return replace(snapshot.topology, nodes=nodes)


def check_pod(snapshot: Snapshot) -> None:
    """Raise CheckError if the selected pod does not exist or has no claims."""
    known = [name_of(pod) for pod in snapshot.pods]
    if snapshot.pod and snapshot.pod not in known:
        raise CheckError(
            f"no pod {snapshot.pod} that has claims and has not ended; available: {', '.join(known) or 'none'}"
        )


def name_of(item: Mapping[str, Any]) -> str:
    """``namespace/name`` of an object."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"
