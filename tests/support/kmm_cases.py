"""Like ``diagnosis_cases``, on clusters where KMM loads the kernel module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mock_device.lab.cluster import kmm_state
from support.diagnosis_cases import HEALTHY
from support.recorded_cluster import KMM, NODE1, NODE2

CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "module that KMM should not load there": (
        {
            "devices": [HEALTHY.devices[0], replace(HEALTHY.devices[1], module="not loaded")],
            "kmm": replace(KMM, nodes={**KMM.nodes, NODE2: {"metadata": {"labels": {}}}}),
        },
        "kernel module drives devices",
        f"{NODE2}: expected kernel module mock_accel live, found not loaded; it has no label "
        "mock-accel.example.com/kernel-module=kmm, so KMM does not load the module",
        f"lab kubectl label node {NODE2} mock-accel.example.com/kernel-module=kmm",
    ),
    "module unloaded behind the back of KMM": (
        {"devices": [HEALTHY.devices[0], replace(HEALTHY.devices[1], module="not loaded")], "kmm": KMM},
        "kernel module drives devices",
        f"{NODE2}: expected kernel module mock_accel live, found not loaded; KMM believes that it is loaded",
        f"lab kubectl patch nodemodulesconfig {NODE2} --subresource status",
    ),
    "KMM without a Module": (
        {
            "devices": [replace(shown, module="not loaded") for shown in HEALTHY.devices],
            "kmm": replace(KMM, module=None),
        },
        "kernel module drives devices",
        f"{NODE1}: expected kernel module mock_accel live, found not loaded; there is no Module mock-device/mock-accel "
        "(and 1 more)",
        f"lab kubectl apply -f {kmm_state.MANIFEST}",
    ),
    "device not in sysfs, module by KMM": (
        {"devices": [replace(HEALTHY.devices[0], accelerators=()), HEALTHY.devices[1]], "kmm": KMM},
        "sysfs shows devices",
        f"{NODE1} mock0 (0000:11:00.0): /sys/class/mock-accel has no such device (and 5 more)",
        f"lab kubectl delete -f {kmm_state.MANIFEST} && lab kubectl apply -f {kmm_state.MANIFEST}",
    ),
}
