"""How a cluster is: guests, nodes, module, devices, driver pods."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.lab.base.disk import mebibytes
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.tables import Table
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.ssh import on_node
from mock_device.lab.kube import kubeclient
from mock_device.names import DRIVER

# A cluster must not be given up because a busy machine answers late.
_HEALTH_SECONDS = 180.0
_MOST_QMP_SECONDS = 100.0
"""The supervisor itself must have answered by then."""
_NAMESPACE = "mock-device"
# One command per node: each needs a new SSH session, most of a second without hardware virtualisation.
_PROBE = (
    "test -d /sys/module/mock_accel && echo module; "
    "for d in /sys/class/mock-accel/*/; do [ -e $d/status ] && echo device $(basename $d) $(cat $d/status); done; true"
)


@dataclass(frozen=True)
class NodeStatus:
    """One node of a cluster."""

    name: str
    guest: str
    """QEMU's run state, normally ``running``; ``silent`` if QEMU does not answer, ``gone`` if it has ended."""
    memory: int
    """Memory of the guest's QEMU on this machine, in bytes; see ``lab.base.processes.ProcessState``."""
    ready: str
    """Condition Ready in the API: ``True``, ``False``, ``Unknown``, or ``absent``."""
    module: bool
    devices: dict[str, str]
    """Status register in sysfs by device name: ``0`` free, ``1`` allocated."""
    expected_devices: int
    """Number of PFs in the topology."""
    error: str = ""
    vfs: tuple[str, ...] = ()
    """Names of the VFs among ``devices``, which exist only while pods use them."""

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
    """A cluster with its nodes and pods."""

    name: str
    topology: str
    state: str
    holders: list[str]
    nodes: list[NodeStatus]
    pods: list[PodStatus]
    slices: int
    """ResourceSlices with devices of the driver."""

    @property
    def healthy(self) -> bool:
        """Whether the cluster has everything that a suite needs."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """What the cluster lacks for a suite, a phrase each."""
        found = [] if self.state == "running" else [f"the cluster is {self.state}"]
        for node in self.nodes:
            found += [f"{node.name}: {complaint}" for complaint in _node_complaints(node)]
        found += [f"pod {pod.name} on {pod.node} is not ready ({pod.phase})" for pod in self.pods if not pod.ready]
        if not self.pods:
            found.append(f"no pods in namespace {_NAMESPACE}")
        if self.slices < (expected := sum(node.expected_devices for node in self.nodes)):
            found.append(f"expected {expected} ResourceSlices, found {self.slices}")
        return found


def _node_complaints(node: NodeStatus) -> Iterator[str]:
    if node.guest != "running":
        yield f"its guest is {node.guest}"
    if node.ready != "True":
        yield f"expected Ready True, found {node.ready}"
    if node.error:
        yield node.error
        return
    if not node.module:
        yield "kernel module mock_accel is not loaded"
    if len(node.pfs) < node.expected_devices:
        yield f"expected {node.expected_devices} devices, found {len(node.pfs)}"


def health_complaints(cluster: Cluster) -> list[str]:
    """Why ``cluster`` is not in the state in which a suite must leave it (healthy, all devices free), a phrase each."""
    try:
        found = collect(cluster, _HEALTH_SECONDS)
    except (StepError, ApiException, HTTPError) as error:
        return [str(error)]
    allocated = [
        f"{node.name}: {name} is still allocated"
        for node in found.nodes
        for name, value in node.devices.items()
        if value == "1"
    ]
    return found.complaints() + allocated


def parse_probe(output: str) -> tuple[bool, dict[str, str]]:
    """Parse the probe's output: whether the module is loaded, and the devices' status."""
    module = False
    devices = {}
    for line in output.splitlines():
        match line.split():
            case ["module"]:
                module = True
            case ["device", name, status]:
                devices[name] = status
            case ["device", name]:
                devices[name] = "?"
    return module, devices


def collect(cluster: Cluster, seconds: float | None = None) -> ClusterStatus:
    """Query supervisor, QEMU, API server and all nodes; guests and nodes in parallel.

    A node or guest that has not answered after ``seconds`` (default: the cluster's ``look_seconds``)
    is shown with the error. Raises StepError.
    """
    seconds = seconds or cluster.look_seconds
    supervisor = cluster.supervisor_status()
    memory = {process["name"]: int(process["memory"]) for process in supervisor["processes"]}
    api = kubeclient.connect(cluster.kubeconfig)
    ready = kubeclient.nodes_ready(api)

    def probe(name: str) -> tuple[bool, dict[str, str], str]:
        try:
            output = on_node(cluster.node(name), ["sh", "-c", _PROBE], timeout=seconds)
            return (*parse_probe(output), "")
        except StepError as error:
            return False, {}, f"no answer over SSH: {error}"

    names = [node.name for node in cluster.topology.nodes]
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        outputs = pool.map(probe, names)
        guests = cluster.look("query-status", min(seconds, _MOST_QMP_SECONDS))
        probes = dict(zip(names, outputs, strict=True))
    nodes = []
    for node in cluster.topology.nodes:
        module, devices, error = probes[node.name]
        answer = guests[node.name]
        guest = answer.value["status"] if not answer.error else "silent" if answer.silent else "gone"
        virtual = {function.name for function in node.functions if function.is_vf}
        nodes.append(
            NodeStatus(
                name=node.name,
                guest=guest,
                memory=memory.get(f"qemu-{node.name}", 0),
                ready=ready.get(node.name, "absent"),
                module=module,
                devices=devices,
                expected_devices=sum(not function.is_vf for function in node.functions),
                error=error or answer.error,
                vfs=tuple(name for name in devices if name in virtual),
            )
        )
    pods = [PodStatus(*fields) for fields in kubeclient.pods(api, _NAMESPACE)]
    return ClusterStatus(
        name=cluster.name,
        topology=cluster.topology.name,
        state=supervisor["state"],
        holders=supervisor["holders"],
        nodes=nodes,
        pods=pods,
        slices=kubeclient.count_slices(api, DRIVER),
    )


def tables(status: ClusterStatus) -> list[Table]:
    """Tables of the cluster, its nodes and its pods."""
    return [
        Table((), [("cluster", status.name, status.topology, status.state, f"slices {status.slices}")]),
        Table(
            ("node", "guest", "memory", "ready", "module", "devices", "allocated"),
            [_node_row(node) for node in status.nodes],
            right=("memory",),
            # The error of a node has no heading.
            wraps=("",),
        ),
        Table(
            ("pod", "node", "phase", "ready"),
            [(pod.name, pod.node, pod.phase, "yes" if pod.ready else "no") for pod in status.pods],
        ),
    ]


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    allocated = [name for name, value in node.devices.items() if value == "1"]
    row = (
        node.name,
        node.guest,
        mebibytes(node.memory),
        node.ready,
        "loaded" if node.module else "absent",
        f"{len(node.pfs)} of {node.expected_devices}" + (f" and {len(node.vfs)} VFs" if node.vfs else ""),
        ",".join(allocated) or "-",
    )
    return (*row, node.error) if node.error else row
