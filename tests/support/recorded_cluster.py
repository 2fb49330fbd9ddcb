"""A cluster as ``lab diagnose`` sees it: the default topology, healthy, one pod with mock0 of the first node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mock_accel_dra import cdi as driver_cdi
from mock_accel_dra.slices import desired

from mock_device.checks.nodes import cdi
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.sysfs import PF_ID, VF_ID, Accelerator, NodeDevices, PciFunction
from mock_device.checks.objects import claims, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.diagnosis.folders import Folder
from mock_device.diagnosis.snapshot import Access, ContainerKey, Event
from mock_device.driver import current
from mock_device.lab.cluster import deploy, kmm_state
from mock_device.lab.cluster.kmm_state import KmmState
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.kube import manifests
from mock_device.topology import Function, Node, Topology
from support.driver_device import device_of
from support.runtimes import RUNTIME
from support.topologies import CLUSTER

Object = dict[str, Any]
NODE1, NODE2 = (node.name for node in CLUSTER.nodes)
MOCK0 = CLUSTER.nodes[0].functions[0]
FOLDER = Folder("directory", "24:7", readable=True, writable=True)
# The relevant part of `containerd config dump`.
CONFIG = """\
version = 3
[plugins.'io.containerd.cri.v1.runtime']
  enable_cdi = true
  cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'crun'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun.options]
      BinaryName = '/usr/bin/crun'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
"""
LOG = """\
I1125 03:50:01.000100       1 agent.py:110] "Devices of this node" count=6 added=["mock0"] removed=[]
I1125 03:50:01.900100       1 agent.py:118] "Published slices" devices=6 written=6
"""
# An agent's metrics that show problems, and one more.
METRICS = """\
# HELP mock_accel_devices_left_out Devices of this node that cannot be published
# TYPE mock_accel_devices_left_out gauge
# HELP mock_accel_slice_fields_changed Fields of slices that the API server keeps otherwise than they were written
# TYPE mock_accel_slice_fields_changed gauge
# HELP mock_accel_start_seconds From the start of the process
# TYPE mock_accel_start_seconds gauge
mock_accel_start_seconds 1.5
"""
_IMAGE = "localhost/mock-device/mock-accel-kmod:dev"
_ENTRY = {"modules": [{"namespace": "mock-device", "name": "mock-accel"}]}
# KMM's objects on the same cluster, if it loads the kernel module.
KMM = KmmState(
    served=True,
    module=manifests.read_manifest(kmm_state.MANIFEST)[-1],
    images={_IMAGE: "Exists"},
    configs={name: {"spec": _ENTRY, "status": _ENTRY} for name in (NODE1, NODE2)},
    nodes={
        name: {
            "metadata": {
                "labels": {kmm_state.NODE_LABEL: kmm_state.NODE_LABEL_VALUE, kmm_state.READY_LABEL: ""},
            },
            "status": {"nodeInfo": {"kernelVersion": "6.12.1"}},
        }
        for name in (NODE1, NODE2)
    },
    deployments=[
        {
            "metadata": {"namespace": "kmm-operator-system", "name": "kmm-operator-controller"},
            "spec": {"replicas": 1},
            "status": {"availableReplicas": 1},
        }
    ],
)
READY = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}]


def pod_of(component: str, node: str | None, **status: Any) -> Object:
    """A pod of the driver."""
    return {
        "metadata": {"name": f"{component}-{node or 'x'}", "namespace": "mock-device"},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": READY, **status},
    }


def shown(node: Node, allocated: Sequence[str] = ()) -> NodeDevices:
    """Devices that the guest shows, no VF enabled."""
    return NodeDevices(
        node.name,
        tuple(PciFunction(f.bdf, VF_ID if f.is_vf else PF_ID, f.numa_node, "mock_accel") for f in node.functions),
        tuple(
            Accelerator(f.name, f.uuid, f.memory, f.numa_node, f.capability_bits, int(f.name in allocated), f.bdf)
            for f in node.pfs
        ),
    )


def published() -> list[Object]:
    """The slices of all PFs, as the driver writes them."""
    items = []
    for node in CLUSTER.nodes:
        for pool in desired(node.name, "uid", [device_of(node, pf) for pf in node.pfs]).values():
            for item in pool:
                item["spec"]["pool"] |= {"generation": 1, "resourceSliceCount": len(pool)}
                items.append(item)
    return items


def device_classes() -> list[Object]:
    """DeviceClasses of the driver's manifest."""
    return [item for item in deploy.objects_of(current.driver()) if item["kind"] == "DeviceClass"]


def claim(name: str = "user", *devices: str, selectors: tuple[str, ...] = (), count: int = 1) -> Object:
    """A claim; with ``devices`` (of the first node) it is allocated and reserved for the pod of its name."""
    body = claims.build(name, [DeviceRequest("device", count, selectors=selectors)], None, {})
    body["metadata"]["namespace"] = "default"
    results = [
        {"request": "device", "driver": "mock-accel.example.com", "pool": f"{NODE1}/{device}", "device": device}
        for device in devices
    ]
    if devices:
        body["status"] = {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": name, "uid": "u"}],
        }
    return body


def pod(name: str = "user", node: str | None = NODE1, **status: Any) -> Object:
    """A pod with the claim of its name; it runs by default."""
    body = pods.build(name, [name], None, {})
    body["metadata"]["namespace"] = "default"
    body["spec"]["nodeName"] = node
    return body | {"status": {"phase": "Running", "conditions": READY} | status}


def waiting(name: str, message: str) -> Object:
    """A pod that the scheduler cannot place."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(name, None, phase="Pending", conditions=[condition])


def cdi_file(function: Function = MOCK0, node: Node = CLUSTER.nodes[0]) -> CdiFile:
    """The file of a device, as the driver writes it."""
    device = device_of(node, function)
    text = json.dumps(driver_cdi.spec(Path(cdi.FOLDER), device), indent=2)
    return CdiFile(node.name, cdi.path_of(function.name), text, dict(device.links))


VIEW = f"""\
env\tMOCK_ACCEL_DEVICE=mock0
env\tMOCK_ACCEL_UUID={MOCK0.uuid}
env\tMOCK_ACCEL_PCI={MOCK0.bdf}
env\tMOCK_ACCEL_DEVICE_MOCK0=mock0
env\tMOCK_ACCEL_UUID_MOCK0={MOCK0.uuid}
env\tMOCK_ACCEL_PCI_MOCK0={MOCK0.bdf}
device\tmock0\t{MOCK0.uuid}\t0\t/sys/devices/pci0000:10/0000:10:00.0/{MOCK0.bdf}\t
end
"""


def _by_node(value: Any) -> dict[str, Any]:
    return dict.fromkeys((NODE1, NODE2), value)


@dataclass(frozen=True)
class Recorded:
    """A recorded ``diagnosis.snapshot.Snapshot``; fields that a test does not change are healthy."""

    topology: Topology = CLUSTER
    pod: str | None = None
    has_guests: bool = True
    state: str = "running"
    guests: Mapping[str, str] = field(default_factory=lambda: _by_node("running"))
    servers: Mapping[str, int | None] = field(default_factory=lambda: _by_node(None))
    silent: Mapping[str, str] = field(default_factory=dict)
    clocks: Mapping[str, float] = field(default_factory=lambda: _by_node(0.0))
    nodes: Mapping[str, Object] = field(default_factory=lambda: _by_node({"status": {"conditions": READY}}))
    plugged: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: {node.name: {f.name: f.bdf for f in node.functions} for node in CLUSTER.nodes}
    )
    devices: Sequence[NodeDevices] = (shown(CLUSTER.nodes[0], ["mock0"]), shown(CLUSTER.nodes[1]))
    kmm: KmmState | None = None
    daemon_set: Object | None = field(default_factory=lambda: {"spec": {"template": {"spec": {}}}})
    agents: Sequence[Object] = field(
        default_factory=lambda: [pod_of("mock-accel-node-agent", node) for node in (NODE1, NODE2)]
    )
    agent_logs: Mapping[str, str] = field(default_factory=lambda: _by_node(LOG))
    agent_metrics: Mapping[str, str] = field(default_factory=lambda: _by_node(METRICS))
    refused: Sequence[Access] = ()
    slices: Sequence[Object] = field(default_factory=published)
    rewrites: Mapping[str, int] = field(default_factory=dict)
    driver_pods: Sequence[Object] = field(
        default_factory=lambda: [pod_of("mock-accel-kmod", NODE1), pod_of("mock-accel-controller", NODE2)]
    )
    controllers: Sequence[Object] = field(default_factory=lambda: [pod_of("mock-accel-controller", NODE2)])
    device_classes: Sequence[Object] = field(default_factory=device_classes)
    taint_rules: Sequence[Object] = ()
    claims: Sequence[Object] = field(default_factory=lambda: [claim("user", "mock0")])
    templates: Sequence[str] = ()
    pods: Sequence[Object] = field(default_factory=lambda: [pod()])
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    cdi_folders: Mapping[str, Folder] = field(default_factory=lambda: _by_node(FOLDER))
    agent_folders: Mapping[str, Folder] = field(default_factory=lambda: _by_node(FOLDER))
    cdi_files: Sequence[CdiFile] = (cdi_file(),)
    configs: Mapping[str, str] = field(default_factory=lambda: _by_node(CONFIG))
    default_runtime: str = "crun"
    runtimes: Mapping[str, NodeRuntime] = field(default_factory=lambda: _by_node(RUNTIME))
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    views: Mapping[ContainerKey, str] = field(default_factory=lambda: {("default", "user", "main"): VIEW})

    def has_image(self, node: str, image: str) -> bool:
        return image in self.images.get(node, ())

    def view(self, container: ContainerKey) -> str:
        return self.views[container]
