"""Events (core/v1) on claims and on the node; no I/O."""

from __future__ import annotations

import hashlib
from typing import Any

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.names import event_name
from mock_accel_dra.state import PreparedClaim

PREPARE_FAILED = "PrepareFailed"
DEVICE_UNHEALTHY = "DeviceUnhealthy"
DEVICE_HEALTHY = "DeviceHealthy"
DEVICE_HUNG = "DeviceHung"
DEVICE_RESET = "DeviceReset"
DEVICE_RESET_FAILED = "DeviceResetFailed"
_NORMAL = frozenset({DEVICE_HEALTHY, DEVICE_RESET})
"""Reasons of events of type Normal; others are warnings."""
_LONGEST_MESSAGE = 1024
"""Limit of an event's message: core/v1 Event, validation."""
NODE_NAMESPACE = "default"
"""Namespace of events on nodes, which have none: those of the kubelet are there, too."""

Object = dict[str, Any]


def failure(node: str, namespace: str, claim: str, uid: str, message: str, now: str) -> Object:
    """Event on a claim that cannot be prepared.

    Equal failures have equal names, so that the API server refuses duplicates.
    """
    return _event(node, _claim(namespace, claim, uid), PREPARE_FAILED, message, now, once=f"{uid} {_cut(message)}")


def on_claim(node: str, claim: PreparedClaim, reason: str, message: str, now: str) -> Object:
    """Event on a claim about one of its devices; the same again later is another event."""
    involved = _claim(claim.namespace, claim.name, claim.uid)
    return _event(node, involved, reason, message, now, once=f"{claim.uid} {reason} {now} {message}")


def on_node(node: str, reason: str, message: str, now: str) -> Object:
    """Event on the node about one of its devices."""
    # The kubelet uses the node's name as uid (pkg/kubelet, nodeRef), and so `kubectl describe node` finds it.
    involved = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    return _event(node, involved, reason, message, now, once=f"{node} {reason} {now} {message}")


def _claim(namespace: str, name: str, uid: str) -> Object:
    reference = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim"}
    return {**reference, "namespace": namespace, "name": name, "uid": uid}


def _event(node: str, involved: Object, reason: str, message: str, now: str, *, once: str) -> Object:
    """Event on the object ``involved``; its name depends on ``once``."""
    digest = hashlib.sha256(once.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": event_name(involved["name"], digest),
            "namespace": involved.get("namespace", NODE_NAMESPACE),
        },
        "involvedObject": involved,
        "type": "Normal" if reason in _NORMAL else "Warning",
        "reason": reason,
        "message": _cut(message),
        "source": {"component": DRIVER_NAME, "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _cut(message: str) -> str:
    return message[:_LONGEST_MESSAGE]
