"""Builders of claims of every form, and the causes that ``lab diagnose`` finds if they cannot be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mock_device.diagnosis import diagnosis
from mock_device.diagnosis.steps import Finding
from support.diagnosis_cases import HEALTHY, NONE_FITS
from support.recorded_cluster import NODE1, NODE2, claim, device_classes, pod, published, waiting
from support.topologies import CLUSTER

Object = dict[str, Any]


OURS, FOREIGN = "mock-accel.example.com", "gpu.example.com"


ATTRIBUTES = f'device.attributes["{OURS}"]'


CAN_BE_MET = next(step for step in diagnosis.STEPS if step.name == "claims can be met")


PFS = [function.name for function in CLUSTER.nodes[0].pfs]


GPU_CLASS: Object = {
    "metadata": {"name": "gpu"},
    "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{FOREIGN}"'}}]},
}


FOREIGN_SLICES: list[Object] = [
    {
        "metadata": {"name": f"{node}-{FOREIGN}-x7k2p"},
        "spec": {
            "driver": FOREIGN,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {"name": f"gpu-{number}", "attributes": {"model": {"string": "LATEST-GPU-MODEL"}}}
                for number in range(8)
            ],
        },
    }
    for node in (NODE1, NODE2)
]


def request(name: str = "device", device_class: str = "mock-accel-pf", **fields: Any) -> Object:
    mode = {} if "allocationMode" in fields else {"allocationMode": "ExactCount", "count": 1}
    return {"name": name, "exactly": {"deviceClassName": device_class, **mode, **fields}}


def cel(*expressions: str) -> list[Object]:
    return [{"cel": {"expression": expression}} for expression in expressions]


def asks(*requests: Object, constraints: Sequence[Object] = (), name: str = "other") -> Object:
    body = claim(name)
    body["spec"]["devices"] = {
        "requests": list(requests),
        **({"constraints": list(constraints)} if constraints else {}),
    }
    return body


def has(name: str, *devices: str, node: str = NODE1, pool: str = "", **fields: Any) -> Object:
    """A claim that has ``devices`` and is reserved for a pod of its name."""
    body = claim(name, *devices)
    for item in body["status"]["allocation"]["devices"]["results"]:
        item |= {"pool": pool or f"{node}/{item['device']}", **fields}
    return body


def look(*claims: Object, message: str = NONE_FITS, **changes: Any) -> Finding:
    """The finding of step "claims can be met"; pod ``other`` waits for the claim of its name."""
    fields: dict[str, Any] = {
        "claims": [claim("user", "mock0"), *claims],
        "pods": [pod(), waiting("other", message)],
        "device_classes": [*device_classes(), GPU_CLASS],
        "slices": [*published(), *FOREIGN_SLICES],
    }
    return CAN_BE_MET.check(replace(HEALTHY, **fields | changes))


def cause(*claims: Object, message: str = NONE_FITS, **changes: Any) -> str:
    """Only the cause; empty if there is only the scheduler's message."""
    found = look(*claims, message=message, **changes)
    assert found.remedy
    start, end = "pod default/other: ", f"the scheduler says: {message}"
    assert found.evidence.startswith(start) and found.evidence.endswith(end)
    return found.evidence.removeprefix(start).removesuffix(end).removesuffix("; ")


NEEDS_ALL = "claim default/other, request 'device': "
NUMA, PF_UUID = f"{OURS}/numaNode", f"{OURS}/uuid"


def alternatives(*wanted: Object) -> Object:
    items = [{"name": f"way{number}", **item["exactly"]} for number, item in enumerate(wanted)]
    return {"name": "device", "firstAvailable": items}


def rule(name: str = "maintenance", effect: str = "NoSchedule", **selector: str) -> Object:
    taint = {"key": "example.com/maintenance", "value": "yes", "effect": effect}
    return {"metadata": {"name": name}, "spec": {"deviceSelector": selector, "taint": taint}}
