"""Pods with claims that are deleted soon after their creation."""

from __future__ import annotations

from kubernetes.client import ApiClient

from mock_device.checks.objects import claims, kube, pods
from mock_device.checks.objects.claims import DeviceRequest
from mock_device.checks.objects.kube import LABELS

_IN_FLIGHT = 5
"""Maximum number of pods that exist at the same time."""


def churn(api: ApiClient, count: int, node: str) -> int:
    """Create ``count`` pods with a claim each on ``node``, and delete them soon after.

    At most five exist at a time, so most are deleted before they run. Returns how
    many were running.
    """
    alive: list[str] = []
    ran = 0
    for number in range(count):
        name = f"comes-and-goes-{number}"
        kube.create_claim(api, claims.build(name, [DeviceRequest("device")], None, LABELS))
        kube.create_pod(api, pods.build(name, [name], node, LABELS))
        alive.append(name)
        while len(alive) > (_IN_FLIGHT if number < count - 1 else 0):
            ran += _drop(api, alive.pop(0))
    return ran


def _drop(api: ApiClient, name: str) -> bool:
    ran = pods.runs(kube.get_pod(api, name))
    kube.start_deleting_pod(api, name)
    kube.delete_claim(api, name)
    return ran
