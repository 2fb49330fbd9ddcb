"""What there is to know for ``lab diagnose``: judges take it, so that tests can give them recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.diagnosis.folders import Folder
from mock_device.topology import Topology

Object = dict[str, Any]
NO_LOG = "no log: "
"""What stands in place of a log that cannot be read, before the reason."""
WATCHED_SECONDS = 5.0
"""How long slices are watched for writes that do not end."""
ContainerKey = tuple[str, str, str]
"""Namespace, pod, container."""


@dataclass(frozen=True)
class Access:
    """Something that a service account of the driver does at the API server."""

    account: str
    verb: str
    group: str
    resource: str
    """With a subresource, ``resourceclaims/status``."""
    name: str = ""
    """Of the one object that it may do this to; empty for all."""

    def __str__(self) -> str:
        resource = f"{self.resource}{f'.{self.group}' if self.group else ''}"
        return f"{self.account} may not {self.verb} {resource}{f' {self.name}' if self.name else ''}"


@dataclass(frozen=True)
class Event:
    """A Warning event of a pod."""

    reason: str
    message: str


class Snapshot(Protocol):
    """Everything that judges may ask for. Objects are the API's JSON; mappings are by node if not said otherwise."""

    @property
    def topology(self) -> Topology: ...
    @property
    def pod(self) -> str | None:
        """``namespace/name`` of the one pod whose claims are looked at; None for all pods with claims."""

    @property
    def guests(self) -> Mapping[str, str]:
        """QEMU's run state."""

    @property
    def servers(self) -> Mapping[str, int | None]:
        """Exit code of the device server, None while it runs."""

    @property
    def clocks(self) -> Mapping[str, float | str]:
        """Seconds that the node's clock is ahead of this machine's (below 0: behind), or why it cannot be read."""

    @property
    def nodes(self) -> Mapping[str, Object]: ...
    @property
    def plugged(self) -> Mapping[str, Mapping[str, str]]:
        """PCI addresses of QEMU's mock accelerators by their names."""

    @property
    def devices(self) -> Sequence[NodeDevices]: ...
    @property
    def modules(self) -> Mapping[str, str]: ...
    @property
    def drivers(self) -> Mapping[str, Mapping[str, str]]:
        """Name of the kernel driver of each mock accelerator by PCI address; empty without one."""

    @property
    def daemon_set(self) -> Object | None:
        """The node agents'."""

    @property
    def agents(self) -> Sequence[Object]:
        """Pods of the node agent, those that end at the moment left out."""

    @property
    def agent_logs(self) -> Mapping[str, str]:
        """Ends of the node agents' logs since the cluster was started or restored."""

    @property
    def agent_metrics(self) -> Mapping[str, str]:
        """What the node agents serve to Prometheus."""

    @property
    def refused(self) -> Sequence[Access]:
        """What the API server would refuse to the driver, of all that its manifest grants."""

    @property
    def slices(self) -> Sequence[Object]: ...
    @property
    def rewrites(self) -> Mapping[str, int]:
        """How often pools of the driver were written during WATCHED_SECONDS, by name, if that was often."""

    @property
    def controllers(self) -> Sequence[Object]:
        """Pods of the controller."""

    @property
    def device_classes(self) -> Sequence[Object]: ...
    @property
    def taint_rules(self) -> Sequence[Object]:
        """DeviceTaintRules; none where the API server does not serve them."""

    @property
    def claims(self) -> Sequence[Object]: ...
    @property
    def templates(self) -> Sequence[str]:
        """``namespace/name`` of each ResourceClaimTemplate."""

    @property
    def pods(self) -> Sequence[Object]:
        """Pods with claims, those of extended resources too; pods that have ended or are being deleted left out."""

    @property
    def events(self) -> Mapping[str, Sequence[Event]]:
        """Warnings about ``pods`` that do not run, by ``namespace/name``, the last one last."""

    @property
    def cdi_folders(self) -> Mapping[str, Folder]:
        """The CDI folder as the node has it."""

    @property
    def agent_folders(self) -> Mapping[str, Folder]:
        """The CDI folder as the node agent has it in its container."""

    @property
    def cdi_files(self) -> Sequence[CdiFile]: ...
    @property
    def configs(self) -> Mapping[str, str]:
        """containerd's configuration (TOML)."""

    def view(self, container: ContainerKey) -> str:
        """What ``checks.objects.pods.PROBE`` prints in a container. Raises CheckError when it cannot be run there."""


def check_pod(snapshot: Snapshot) -> None:
    """Raise CheckError when the one pod that is to be looked at is not there or has no claims."""
    there = [name_of(pod) for pod in snapshot.pods]
    if snapshot.pod and snapshot.pod not in there:
        raise CheckError(
            f"no pod {snapshot.pod} that has claims and has not ended; there are {', '.join(there) or 'none'}"
        )


def name_of(item: Mapping[str, Any]) -> str:
    """``namespace/name`` of an object."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"
