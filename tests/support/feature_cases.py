"""Devices with all optional features of the driver, and claims for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from mock_accel_dra.discovery import Device

from support.claim_cases import OURS, cel, request

Object = dict[str, Any]
GIB = 1 << 30
NUMA = "resource.kubernetes.io/numaNode"

SHARED = Device(
    "mock0",
    "SHARED",
    16 * GIB,
    0,
    (),
    0,
    "0000:11:00.0",
    "pci0000:10",
    window_size=1 << 20,
    shares=(),
    near_nodes=(0, 1),
)
FAR = replace(SHARED, name="mock3", uuid="FAR", pci_address="0000:14:00.0", numa_node=1, near_nodes=(1,), shares=None)


def card(number: int, *sizes: tuple[int, str]) -> list[Device]:
    """A PF of 16 GiB with VFs of these sizes in GiB, each with one more capability."""
    address = f"0000:{number + 0x11:02x}:00"
    pf = replace(SHARED, name=f"mock{number}", uuid=f"PF{number}", pci_address=f"{address}.0", total_vfs=len(sizes))
    vfs = [
        replace(
            pf,
            name=f"mock{number}_vf{index}",
            uuid=f"VF{number}{index}",
            pci_address=f"{address}.{index + 1}",
            physfn=pf.pci_address,
            total_vfs=0,
            memory=size * GIB,
            capabilities=("compute", capability),
        )
        for index, (size, capability) in enumerate(sizes)
    ]
    return [pf, *vfs]


DEVICES = [
    SHARED,
    *card(1, (12, "encryption"), (8, "encryption"), (4, "encryption")),
    *card(2, (2, "p2p-dma"), (2, "encryption")),
    FAR,
]


def uuid(*names: str) -> list[Object]:
    """Selectors of the devices with one of these uuids."""
    return cel(f'device.attributes["{OURS}"].uuid in {json.dumps(names)}')


def memory(amount: str, **more: str) -> Object:
    return {"requests": {"memory": amount, **more}}


def part(amount: str, **more: str) -> Object:
    """A request for a share of the device that can be shared."""
    return request("part", selectors=uuid("SHARED"), capacity=memory(amount, **more))


def one(*uuids: str) -> Object:
    return request("one", selectors=uuid(*uuids))


def vf(*uuids: str) -> Object:
    return request("one", "mock-accel-vf", selectors=uuid(*uuids))


def numa(constraint: str, *requests: Object) -> Object:
    return {"requests": list(requests), "constraints": [{constraint: NUMA}]}


DERIVED = {
    "requests": [
        {
            "name": name,
            "exactly": {
                "deviceClassName": "mock-accel-pf",
                "selectors": uuid(name.upper()),
                "derivedAttributes": [
                    {"name": "derived/kind", "expression": f'device.attributes["{OURS}"].deviceType + "-derived"'}
                ],
            },
        }
        for name in ("shared", "far")
    ],
    "constraints": [{"matchAttribute": "derived/kind"}],
}
CASES: dict[str, dict[str, Object]] = {
    "shares": {
        "a": {"requests": [part("7500Mi", jobs="20")]},
        "b": {"requests": [part("8Gi", compute="60m")]},
        "c": {"requests": [part("1Gi")]},
    },
    "whole": {"a": {"requests": [one("SHARED")]}, "b": {"requests": [part("1Gi")]}},
    "too much": {"a": {"requests": [part("17Gi")]}, "b": {"requests": [part("1Gi", jobs="256")]}},
    "distinct": {
        "a": {
            "requests": [part("1Gi"), {**part("1Gi"), "name": "more"}],
            "constraints": [{"distinctAttribute": f"{OURS}/uuid"}],
        }
    },
    "partitions": {"a": {"requests": [vf("VF10")]}, "b": {"requests": [vf("VF11")]}, "c": {"requests": [vf("VF12")]}},
    "groups": {"a": {"requests": [vf("VF20")]}, "b": {"requests": [vf("VF21")]}},
    "near": {"a": numa("matchAttribute", request("x", selectors=uuid("SHARED")), request("y", selectors=uuid("FAR")))},
    "disjoint": {
        "a": numa("distinctAttribute", request("x", selectors=uuid("SHARED")), request("y", selectors=uuid("FAR")))
    },
    "included": {
        "a": {
            "requests": [
                request(
                    "x",
                    selectors=[
                        *uuid("SHARED", "FAR"),
                        *cel('device.attributes["resource.kubernetes.io"].numaNode.includes(0)'),
                    ],
                )
            ]
        }
    },
    "derived": {"a": DERIVED},
}
