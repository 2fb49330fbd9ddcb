"""The steps of ``make test-kvm``, in order: what each proves, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One thing that must work."""

    name: str
    what: str
    seconds: float
    """Most wall time; several times what it takes on 2 idle cores (docs/measurements.md)."""


BOOT = Step("boot", "the outer guest boots, with /dev/kvm", 240)
ACCELERATOR = Step("accelerator", "the lab chooses KVM", 60)
KERNEL = Step("kernel", "KVM runs the nodes' kernel (kernel probe)", 120)
GUEST = Step("guest", "a node without Kubernetes boots on KVM until SSH answers", 720)
LOGIN = Step("login", "the node runs on KVM, cannot run guests itself, and loads the kernel module", 180)
PLUG = Step("plug", "devices are plugged; PCI bus and sysfs show those of the topology", 240)
SAVE = Step("save", "the devices are unplugged and the guest is saved", 300)
RESTORE = Step("restore", "the guest is restored, and its clock set", 300)
CLOCK = Step("clock", "the restored guest has the right time", 180)
PLUG_AGAIN = Step("plug again", "the same devices are plugged and seen again", 240)
STOP = Step("stop", "the probe names the internal error of KVM with a kernel that it cannot run", 120)
NOTICED = Step("noticed", "the lab notices a guest that QEMU stops with an internal error", 180)
CLUSTER = Step("cluster", "a cluster of topology single-node boots on KVM, its devices are published", 7200)
SUITE = Step("suite", "suites/environment.robot on that cluster", 3600)


@dataclass(frozen=True)
class Plan:
    """Steps that run in one outer guest."""

    name: str
    steps: tuple[Step, ...]
    seconds: float
    """Most wall time of all steps together."""
    memory_mib: int
    """Memory of the outer guest."""
    spare_bytes: int
    """Space on its second disk that the steps write to: saved memory of guests, their disks, etcd's data, logs."""


SHORT = Plan(
    "short",
    (BOOT, ACCELERATOR, KERNEL, GUEST, LOGIN, PLUG, SAVE, RESTORE, CLOCK, PLUG_AGAIN, STOP, NOTICED),
    seconds=1500,
    memory_mib=2048,
    spare_bytes=1 << 30,
)
WHOLE = Plan(
    "cluster", (BOOT, ACCELERATOR, KERNEL, CLUSTER, SUITE), seconds=10800, memory_mib=7168, spare_bytes=8 << 30
)
PLANS = {plan.name: plan for plan in (SHORT, WHOLE)}

# Names on the second disk of the outer guest, where ``outer-init`` expects them.
PROJECT_FOLDER, CACHE_FOLDER, TOPOLOGY_FILE, PLAN_FILE = "project", "cache/mock-device", "topology.yaml", "plan"
NODE_DISK = Path("/dev/vdc")
"""The disk of the nodes, for guests in the outer guest."""
TOPOLOGY = "single-node"
