"""Devices with problems, with the step, evidence and remedy that ``lab diagnose`` must report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mock_device.checks.nodes.sysfs import NodeDevices
from mock_device.lab.cluster import kmm_state
from support.recorded_cluster import KMM, NODE1, NODE2, Recorded

HEALTHY = Recorded()


def with_health(shown: NodeDevices, word: str) -> NodeDevices:
    """Devices of a node of which the kernel module reports ``word``."""
    return replace(shown, accelerators=tuple(replace(device, health=word) for device in shown.accelerators))


CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no firmware": (
        {"devices": [HEALTHY.devices[0], with_health(HEALTHY.devices[1], "no-firmware")]},
        "devices are healthy",
        f"{NODE2} mock0 (0000:11:00.0): expected health ok, found no-firmware: the node's kernel finds no firmware "
        "mock-accel/mock-accel.fw (and 5 more)",
        "lab kubectl -n mock-device rollout restart daemonset/mock-accel-kmod",
    ),
    "device failed": (
        {"devices": [HEALTHY.devices[0], with_health(HEALTHY.devices[1], "fatal")]},
        "devices are healthy",
        f"{NODE2} mock0 (0000:11:00.0): expected health ok, found fatal (and 5 more)",
        f"lab ssh {NODE2} 'echo 1 > /sys/class/mock-accel/mock0/reset'",
    ),
    "device hot": (
        {"devices": [with_health(HEALTHY.devices[0], "hot"), HEALTHY.devices[1]]},
        "devices are healthy",
        f"{NODE1} mock0 (0000:11:00.0): expected health ok, found hot (and 5 more)",
        f"lab ssh {NODE1} 'grep . /sys/class/mock-accel/mock0/temp1_input /sys/class/mock-accel/mock0/temp1_max'",
    ),
    "device has a problem of a later module": (
        {"devices": [with_health(HEALTHY.devices[0], "over-current"), HEALTHY.devices[1]]},
        "devices are healthy",
        f"{NODE1} mock0 (0000:11:00.0): expected health ok, found over-current (and 5 more)",
        f"lab ssh {NODE1} 'dmesg | grep mock_accel | tail -n 20'",
    ),
    "no firmware, module by KMM": (
        {"devices": [with_health(HEALTHY.devices[0], "no-firmware"), HEALTHY.devices[1]], "kmm": KMM},
        "devices are healthy",
        f"{NODE1} mock0 (0000:11:00.0): expected health ok, found no-firmware",
        f"lab kubectl delete -f {kmm_state.MANIFEST} && lab kubectl apply -f {kmm_state.MANIFEST}",
    ),
}
