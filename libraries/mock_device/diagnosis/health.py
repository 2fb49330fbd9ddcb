"""Health of a cluster: the steps of the diagnosis that need a single reading of the cluster, checked all each time.

``lab status``, the pool (when a suite returns its cluster) and suites (when they
have restored devices) use this one answer. The reasons are in
docs/decisions/0020-health-is-part-of-the-diagnosis.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.errors import CheckError
from mock_device.checks.layers import allocation
from mock_device.checks.nodes import sysfs
from mock_device.checks.nodes.looking import LookingSession
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import MODULE_ABSENT, NodeDevices
from mock_device.checks.objects import kube, others, pods
from mock_device.diagnosis import allocation_steps, discovery_steps
from mock_device.diagnosis.discovery_steps import condition
from mock_device.diagnosis.live_snapshot import LiveSnapshot
from mock_device.diagnosis.snapshot import Object, Snapshot
from mock_device.diagnosis.steps import of_cluster, take
from mock_device.driver import current
from mock_device.lab.base.disk import mebibytes
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.tables import Table
from mock_device.lab.cluster import kmm
from mock_device.lab.cluster.cluster import Cluster, GuestAnswer
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.topology import Node

STEPS = tuple(step for step in (*discovery_steps.STEPS, *allocation_steps.STEPS) if step.of_health)


@dataclass(frozen=True)
class NodeStatus:
    """One node of a cluster."""

    name: str
    guest: str
    """QEMU's run state, normally ``running``; ``silent`` if QEMU does not answer, ``gone`` if it has ended;
    ``-`` if the lab does not run the node."""
    memory: int
    """Memory of the guest's QEMU on this machine, bytes; see ``lab.base.processes.ProcessState``."""
    ready: str
    """Condition Ready in the API: ``True``, ``False``, ``Unknown``, or ``absent``."""
    kubelet: str
    """Release of the kubelet, such as ``v1.37.2``, as it reported it last; empty if it never did."""
    module: bool
    devices: dict[str, str]
    """Status register by device name: ``0`` free, ``1`` allocated, as sysfs shows it."""
    expected_devices: int
    """PFs in the topology."""
    error: str = ""
    vfs: tuple[str, ...] = ()
    """Names of those ``devices`` that are VFs of the topology; tests enable and disable them."""

    @property
    def pfs(self) -> list[str]:
        """Names of the other ``devices``."""
        return [name for name in self.devices if name not in self.vfs]


@dataclass(frozen=True)
class PodStatus:
    """A pod of the driver's namespace."""

    name: str
    node: str
    phase: str
    ready: bool


@dataclass(frozen=True)
class ClusterStatus:
    """A whole cluster."""

    name: str
    topology: str
    kubernetes: str
    """Release that the API server runs, such as ``v1.37.2``."""
    state: str
    holders: list[str]
    nodes: list[NodeStatus]
    pods: list[PodStatus]
    slices: int
    """Number of the driver's ResourceSlices with devices; those with counters only do not count."""
    complaints: list[str]
    """Reasons why the cluster is unhealthy, a sentence each."""
    module_loader: str = LoaderKind.POD.value
    """What loads the kernel module: ``pod`` or ``kmm``."""
    driver: str = ""
    """Name of the DRA driver that is judged."""
    drivers: list[str] = field(default_factory=list)
    """Names of all DRA drivers that the lab has deployed there."""
    loader_files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files from which the lab installed the loader, by file name."""

    @property
    def healthy(self) -> bool:
        """Whether everything that a suite needs is there."""
        return not self.complaints


def complaints(snapshot: Snapshot) -> list[str]:
    """Reasons why the cluster is unhealthy, a sentence each; none if it is healthy."""
    found = [complaint for step in of_cluster(STEPS, snapshot) for complaint in take(step, snapshot).complaints]
    return list(dict.fromkeys(found))


def complaints_of(session: Session, *, all_free: bool = False) -> list[str]:
    """Reasons why the cluster of ``session`` is unhealthy now, a sentence each; one of them may be that it is silent.

    With ``all_free``, the state in which a suite must leave a cluster, devices that tests have
    allocated are complaints, too.
    """
    try:
        snapshot = LiveSnapshot(session)
        snapshot.look_at_health()
        allocated = _still_allocated(session, snapshot) if all_free else []
    except (CheckError, StepError, ApiException, HTTPError) as error:
        return [str(error)]
    return complaints(snapshot) + allocated


def _still_allocated(session: Session, snapshot: LiveSnapshot) -> list[str]:
    """Devices that tests have not released: by the registers, or by the claims if the driver does not promise them."""
    held = others.held(session.api)
    if "status-register" in current.driver().promises:
        return sysfs.register_complaints(snapshot.devices, (), held)
    return allocation.still_allocated(kube.allocated_devices(session.api), held)


def status_of(cluster: Cluster) -> ClusterStatus:
    """Status of ``cluster``, which is then released. Raises as ``collect``."""
    session = LookingSession(cluster)
    try:
        return collect(session)
    finally:
        session.close()


def collect(session: Session) -> ClusterStatus:
    """Read the supervisor, QEMU, the API server and every node in parallel, and judge their answers.

    A node or guest that does not answer within the session's time-out has the error instead. Raises StepError,
    ApiException or HTTPError if the supervisor or the API server does not answer.
    """
    snapshot = LiveSnapshot(session)
    snapshot.look_at_health()
    driver = current.driver().name
    state, holders = ("attached", [])
    if snapshot.has_guests:
        state, holders = snapshot.supervisor["state"], snapshot.supervisor["holders"]
    return ClusterStatus(
        name=session.cluster.name,
        topology=session.topology.name,
        kubernetes=snapshot.release,
        state=state,
        holders=holders,
        nodes=_nodes(snapshot),
        pods=[
            PodStatus(
                name=pod["metadata"]["name"],
                node=pod["spec"].get("nodeName") or "",
                phase=(pod.get("status") or {}).get("phase", ""),
                ready=pods.runs(pod),
            )
            for pod in snapshot.driver_pods
        ],
        slices=sum(bool(item["spec"].get("devices")) for item in snapshot.slices if item["spec"]["driver"] == driver),
        complaints=complaints(snapshot),
        driver=driver,
        drivers=[item.name for item in session.cluster.drivers],
        module_loader=snapshot.loader.value,
        loader_files=kmm.checksums_in(session.api) if snapshot.loader is LoaderKind.KMM else {},
    )


def _nodes(snapshot: LiveSnapshot) -> list[NodeStatus]:
    processes = snapshot.supervisor["processes"] if snapshot.has_guests else []
    memory = {process["name"]: int(process["memory"]) for process in processes}
    shown = {item.node: item for item in snapshot.devices}
    return [
        _node(
            node,
            snapshot.guest_answers[node.name] if snapshot.has_guests else None,
            memory.get(f"qemu-{node.name}", 0),
            snapshot.nodes.get(node.name),
            shown.get(node.name),
            snapshot.silent.get(node.name, "").removeprefix(f"{node.name}: "),
        )
        for node in snapshot.topology.nodes
    ]


def _node(
    node: Node, guest: GuestAnswer | None, memory: int, known: Object | None, shown: NodeDevices | None, silent: str
) -> NodeStatus:
    virtual = {function.name for function in node.functions if function.is_vf}
    devices = {device.name: str(device.status) for device in shown.accelerators} if shown else {}
    return NodeStatus(
        name=node.name,
        guest=_guest_state(guest),
        memory=memory,
        ready=condition(known, "Ready") if known else "absent",
        kubelet=_kubelet(known) if known else "",
        module=shown is not None and shown.module != MODULE_ABSENT,
        devices=devices,
        expected_devices=len(node.pfs),
        error=silent or (guest.error if guest else ""),
        vfs=tuple(name for name in devices if name in virtual),
    )


def _kubelet(node: Object) -> str:
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return str(info.get("kubeletVersion") or "")


def _guest_state(guest: GuestAnswer | None) -> str:
    if guest is None:
        return "-"
    return guest.value["status"] if not guest.error else "silent" if guest.silent else "gone"


def tables(status: ClusterStatus) -> list[Table]:
    """Tables of the cluster, its nodes and its pods."""
    return [
        Table((), [_cluster_row(status)]),
        Table(
            ("node", "guest", "memory", "ready", "kubelet", "module", "devices", "allocated"),
            [_node_row(node) for node in status.nodes],
            right=("memory",),
            # The error of a node has no heading.
            wraps=("",),
        ),
        Table(
            ("pod", "node", "phase", "ready"),
            [(pod.name, pod.node, pod.phase, "yes" if pod.ready else "no") for pod in status.pods],
        ),
        *([Table(("file of the module loader", "sha256"), [*status.loader_files.items()])] * bool(status.loader_files)),
    ]


def _cluster_row(status: ClusterStatus) -> tuple[str, ...]:
    slices, loader = f"slices {status.slices}", f"module loader {status.module_loader}"
    others = [name for name in status.drivers if name != status.driver]
    driver = f"driver {status.driver}" + (f", beside {', '.join(others)}" if others else "")
    version = f"Kubernetes {status.kubernetes}"
    return ("cluster", status.name, status.topology, version, status.state, slices, loader, driver)


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    allocated = [name for name, value in node.devices.items() if value == "1"]
    row = (
        node.name,
        node.guest,
        mebibytes(node.memory),
        node.ready,
        node.kubelet or "-",
        "loaded" if node.module else "absent",
        f"{len(node.pfs)} of {node.expected_devices}" + (f" and {len(node.vfs)} VFs" if node.vfs else ""),
        ",".join(allocated) or "-",
    )
    return (*row, node.error) if node.error else row
