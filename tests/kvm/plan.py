"""The steps of ``make test-kvm``, in order: what each proves, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.timeouts import factor

SLOWNESS = 4.0
"""Factor of the lab's time-outs in the outer guest, where everything is slow, beside that of this machine."""
_SOONER = 0.9


@dataclass(frozen=True)
class Step:
    """One thing that must work."""

    name: str
    what: str
    nominal: float
    """Most seconds for a factor of 1; several times what it takes on 2 busy cores (docs/measurements.md)."""

    @property
    def seconds(self) -> float:
        """Most wall time, outside the outer guest."""
        return self.nominal * factor()

    @property
    def inner_seconds(self) -> float:
        """Wall time after which it fails by itself inside, with a reason: sooner than the outer guest is killed."""
        return self.nominal * factor() / SLOWNESS * _SOONER


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
    nominal: float
    """Most seconds of all steps together, for a factor of 1."""
    memory_mib: int
    """Memory of the outer guest."""
    spare_bytes: int
    """Space on its second disk that the steps write to: saved memory of guests, their disks, etcd's data, logs."""

    @property
    def seconds(self) -> float:
        """Most wall time of all steps together, outside the outer guest."""
        return self.nominal * factor()


SHORT = Plan(
    "short",
    (BOOT, ACCELERATOR, KERNEL, GUEST, LOGIN, PLUG, SAVE, RESTORE, CLOCK, PLUG_AGAIN, STOP, NOTICED),
    nominal=1500,
    memory_mib=2048,
    spare_bytes=1 << 30,
)
WHOLE = Plan(
    "cluster", (BOOT, ACCELERATOR, KERNEL, CLUSTER, SUITE), nominal=10800, memory_mib=7168, spare_bytes=8 << 30
)
PLANS = {plan.name: plan for plan in (SHORT, WHOLE)}

# Names on the second disk of the outer guest, where ``outer-init`` expects them.
PROJECT_FOLDER, CACHE_FOLDER, TOPOLOGY_FILE, PLAN_FILE = "project", "cache/mock-device", "topology.yaml", "plan"
NODE_DISK = Path("/dev/vdc")
"""The disk of the nodes, for guests in the outer guest."""
TOPOLOGY = "single-node"
