"""DeviceTaintRules (resource.k8s.io/v1) of tests, and the evictions that taints of devices cause.

Kubernetes deletes a pod that uses a device with a taint of effect NoExecute which the pod's claim does not tolerate
(pkg/controller/devicetainteviction). Before, it gives the pod the condition DisruptionTarget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.checks.objects import kube
from mock_device.checks.objects.kube import LABELS, namespace_of_tests
from mock_device.checks.objects.slices import PublishedId
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.kube import kubeclient

KEY = "mock-device.example.com/test"
"""Key of the taints of all rules of tests."""
EVICTED = "DeletionByDeviceTaintManager"
"""Reason of a pod's condition DisruptionTarget."""
IN_PROGRESS = "EvictionInProgress"
"""Condition of a rule: True while pods must still be evicted."""

Object = dict[str, Any]


class Effect(Enum):
    """What a taint does to claims that do not tolerate it."""

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True)
class Eviction:
    """The end of a pod, as its last state shows it."""

    at: datetime
    """When Kubernetes deleted the pod, by the API server's clock."""
    reason: str
    """Of the condition DisruptionTarget; empty if the pod has none."""


def build(name: str, effect: Effect, device: PublishedId | None = None) -> Object:
    """A rule (API's JSON) for ``device``, or for all devices of the driver; the taint's value is the rule's name."""
    selector = {"driver": current.driver().name} | ({"pool": device.pool, "device": device.device} if device else {})
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {"deviceSelector": selector, "taint": {"key": KEY, "value": name, "effect": effect.value}},
    }


def create(api: ApiClient, body: Object) -> None:
    """Create a rule. Raises CheckError with the API server's reason."""
    kube.create(
        api, client.ResourceV1Api(api).create_device_taint_rule, client.V1DeviceTaintRule, body, namespaced=False
    )


def delete(api: ApiClient, name: str) -> None:
    """Delete a rule: its taint is gone at once."""
    client.ResourceV1Api(api).delete_device_taint_rule(name)


def get(api: ApiClient, name: str) -> Object:
    """A rule (API's JSON), with the time of its taint and its conditions."""
    return kubeclient.as_json(api, client.ResourceV1Api(api).read_device_taint_rule(name))


def time_added(rule: Mapping[str, Any]) -> datetime:
    """When the taint of a rule (API's JSON) was added, by the API server's clock."""
    return _time(rule["spec"]["taint"]["timeAdded"])


def condition_complaints(rule: Mapping[str, Any], status: str, reason: str) -> list[str]:
    """Whether a rule (API's JSON) lacks the condition EvictionInProgress with ``status`` and ``reason``."""
    found = {item["type"]: item for item in (rule.get("status") or {}).get("conditions") or []}.get(IN_PROGRESS, {})
    if (found.get("status"), found.get("reason")) == (status, reason):
        return []
    actual = f"{found.get('status')}, {found.get('reason')}: {found.get('message')}" if found else "no such condition"
    return [f"expected {IN_PROGRESS} {status}, {reason}; found {actual}"]


def eviction_of(pod: Mapping[str, Any]) -> Eviction | None:
    """How a pod (API's JSON) is being deleted; None if it is not."""
    metadata = pod["metadata"]
    if not metadata.get("deletionTimestamp"):
        return None
    # The API server adds the grace period to the time of the deletion.
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    conditions = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or []}
    return Eviction(
        _time(metadata["deletionTimestamp"]) - grace, conditions.get("DisruptionTarget", {}).get("reason") or ""
    )


def wait_evicted(api: ApiClient, name: str, timeout: timedelta) -> Eviction:
    """Wait until a pod of the tests' namespace is evicted because of a taint. Raises CheckError.

    Call it before the eviction, which is seen by a watch: soon afterwards the pod is gone.
    """
    last: list[Eviction] = []

    def ends(found: Mapping[str, Any]) -> bool:
        if name in found and (eviction := eviction_of(kubeclient.as_json(api, found[name]))):
            last[:] = [eviction]
        return bool(last) or name not in found

    seconds = timeouts.seconds(timeout)
    selection = {"namespace": namespace_of_tests(api), "field_selector": f"metadata.name={name}"}
    found = kubeclient.watch_until(client.CoreV1Api(api).list_namespaced_pod, ends, seconds, **selection)
    if not last:
        state = "it is not being deleted" if name in found else "it is gone, and nobody has seen why"
        raise CheckError(f"pod {name!r}: expected it to be evicted within {seconds:.0f} s: {state}")
    if last[0].reason != EVICTED:
        raise CheckError(
            f"pod {name!r}: expected condition DisruptionTarget because of {EVICTED}, "
            f"found {last[0].reason or 'no such condition'}: it was deleted for another reason"
        )
    return last[0]


def _time(text: str) -> datetime:
    """Time of the API (RFC 3339)."""
    return datetime.fromisoformat(text)
