"""The step of ``lab diagnose`` that reads what the kernel module says of its devices' health."""

from __future__ import annotations

from mock_device.checks.nodes import sysfs
from mock_device.diagnosis import loader_remedies
from mock_device.diagnosis.snapshot import Snapshot
from mock_device.diagnosis.steps import Finding, judged, on_node

FIRMWARE = "mock-accel/mock-accel.fw"
"""The kernel module's name for it."""
_OK, _NO_FIRMWARE, _HOT = "ok", "no-firmware", "hot"
_RESET = ("hung", "fatal")
"""Words of the attribute ``health`` (kernel-driver/README.md) that a reset may end."""


def healthy(snapshot: Snapshot) -> Finding:
    """The kernel module reports no problem of a device. Modules without the attribute ``health`` report nothing."""
    wrong, remedy, count = [], "", 0
    for shown in snapshot.devices:
        for device in shown.accelerators:
            count += 1
            if device.health in ("", _OK):
                continue
            why = f": the node's kernel finds no firmware {FIRMWARE}" if device.health == _NO_FIRMWARE else ""
            where = f"{shown.node} {device.name} ({device.bdf})"
            wrong.append(f"{where}: expected health {_OK}, found {device.health}{why}")
            remedy = remedy or _remedy(snapshot, shown.node, device)
    return judged(wrong, remedy, f"{count} devices have no problem")


def _remedy(snapshot: Snapshot, node: str, device: sysfs.Accelerator) -> str:
    folder = f"{sysfs.CLASS_FOLDER}/{device.name}"
    if device.health == _NO_FIRMWARE:
        return loader_remedies.unload_and_load(snapshot)
    if device.health in _RESET:
        return on_node(node, f"echo 1 > {folder}/reset")
    if device.health == _HOT:
        return on_node(node, f"grep . {folder}/temp1_input {folder}/temp1_max")
    return on_node(node, "dmesg | grep mock_accel | tail -n 20")
