"""Clusters that exist and are attached: what is recorded of each, and the cluster as its clients see it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from mock_device import topology as topologies
from mock_device.driver.description import Driver
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import cache_root
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.typed_json import read_typed
from mock_device.lab.cluster import drivers
from mock_device.lab.cluster import inventory as inventories
from mock_device.lab.cluster.cluster import Cluster, NodeAccess
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.kube import contexts
from mock_device.lab.kube.object_id import ObjectId
from mock_device.topology import Node, NumaNode, Topology, TopologyError

ATTACHED = "attached"


@dataclass
class Record:
    """What an attachment has made; written before each thing is made."""

    profile: str
    """Path of the user's profile, which may change while the cluster is attached."""
    mark: str
    """Value of the annotation ``owned.MARK`` of its objects."""
    state: str
    """``attaching``, ``attached`` or ``detaching``."""
    objects: list[ObjectId] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=dict)
    """References of images that it put on each node."""
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Folders that its objects made on each node."""
    release: bool = False
    """Whether the driver is a Helm release, whose label ``owned.MARK`` is the mark."""
    labelled: list[str] = field(default_factory=list)
    """Nodes that got the label by which our Module selects them."""
    vfs: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of enabled VFs of each node's PFs before tests, for PFs that can have some."""


@dataclass(frozen=True)
class AttachedPaths:
    """Files of an attached cluster."""

    root: Path

    @staticmethod
    def of(name: str) -> AttachedPaths:
        return AttachedPaths(cache_root() / "attached" / name)

    @property
    def record(self) -> Path:
        return self.root / "attached.json"

    @property
    def profile(self) -> Path:
        """Copy of the profile, made when the cluster was attached."""
        return self.root / "profile.yaml"

    @property
    def topology(self) -> Path:
        """The declared or discovered topology."""
        return self.root / "topology.yaml"

    @property
    def drivers(self) -> Path:
        """Which drivers the cluster has (JSON): ``lab.cluster.drivers``."""
        return self.root / "drivers.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Lock file of processes that attach or detach the cluster."""
        return self.root.with_name(f"{self.root.name}.lock")

    def load(self) -> Record:
        """The record. Raises StepError."""
        try:
            return read_typed(Record, self.record)
        except (OSError, ValueError) as error:
            raise StepError(f"cluster {self.root.name!r}: {self.record} is damaged: {error}") from error

    def save(self, record: Record) -> None:
        write_file(self.record, json.dumps(asdict(record), indent=1))


def is_attached(name: str) -> bool:
    """Whether a cluster is, or is being, attached under ``name``."""
    return AttachedPaths.of(name).record.exists()


def names() -> list[str]:
    """Names of all attached clusters, sorted."""
    return sorted(path.parent.name for path in (cache_root() / "attached").glob("*/attached.json"))


def attached_by(profile: Path) -> str | None:
    """Name of the cluster that is attached by ``profile``; None if it is not attached."""
    found = [name for name in names() if AttachedPaths.of(name).load().profile == str(profile)]
    return found[0] if found else None


class ExternalCluster(Cluster):
    """An attached cluster. Any number of processes may use it; releasing it does nothing."""

    def __init__(self, name: str, *, complete: bool = True) -> None:
        """The cluster that is attached as ``name``. Raises StepError.

        It must be ``complete``: before, its topology has the nodes without any device.
        """
        self.name = name
        self._paths = AttachedPaths.of(name)
        self.record = self._paths.load()
        if complete and self.record.state != ATTACHED:
            raise StepError(
                f"cluster {name!r} is {self.record.state}, which has not ended; remove what it made: "
                f"lab detach --name {name}"
            )
        self.inventory = inventories.load_copy(self._paths.profile, Path(self.record.profile))
        timeouts.use_profile(self.inventory.timeout_factor)
        self.loads_module = self.inventory.module != "none"
        self.vfs_before_tests = self.record.vfs
        self.look_seconds = Timeout.LOOK_EXTERNAL.seconds
        self.topology = self._topology() if self._paths.topology.exists() else nodes_only(self.inventory)
        try:
            self.drivers = drivers.use_of_cluster(self._paths.drivers, self.topology)
        except ValueError as error:
            raise StepError(f"cluster {name!r}: {self._paths.drivers} is damaged: {error}") from error

    def _topology(self) -> Topology:
        origin = self.inventory.topology or self._paths.topology
        try:
            return topologies.load(self._paths.topology, origin=origin)
        except TopologyError as error:
            raise StepError(
                f"cluster {self.name!r}: {error}; attach it again: lab detach --name {self.name}"
            ) from error

    @cached_property
    def kubeconfig(self) -> Path:
        """The user's kubeconfig as it is now, with the context and the namespace of the profile."""
        source = self.inventory
        content = contexts.with_namespace(source.kubeconfig, source.context, source.namespace)
        write_file(self._paths.kubeconfig, content, 0o600)
        return self._paths.kubeconfig

    @property
    def log_dir(self) -> Path:
        return self._paths.logs

    def node(self, name: str) -> NodeAccess:
        return self.inventory.node(self.topology.node(name).name)

    def record_drivers(self, found: Sequence[Driver]) -> None:
        drivers.write(self._paths.drivers, found)
        self.drivers = found

    def report_activity(self, who: str) -> None:
        """Does nothing: others who use the cluster do not look here."""

    def release(self) -> None:
        """Does nothing: the cluster is not the lab's."""


def nodes_only(inventory: Inventory, but: Collection[str] = ()) -> Topology:
    """The nodes of ``inventory`` without any device, without those in ``but``."""
    numa = NumaNode(id=0, memory=0, cpus=0, bus=0, wired_to=0, slots=())
    nodes = tuple(Node(name, "", (numa,)) for name in inventory.node_names if name not in but)
    return Topology(inventory.path.stem, inventory.path, nodes, True, "")
