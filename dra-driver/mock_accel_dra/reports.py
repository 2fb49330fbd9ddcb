"""What users of claims are told: events when a claim cannot be prepared, and ``status.devices`` of those that are.

Written in a thread of its own: the kubelet's call does not wait for it.
"""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.api import ApiError, ApiUnreachableError, Client, claim_path
from mock_accel_dra.discovery import Device
from mock_accel_dra.names import event_name, field_manager, pool_name
from mock_accel_dra.slices import owners
from mock_accel_dra.state import PreparedClaim

REASON = "PrepareFailed"
_LONGEST_MESSAGE = 1024
"""core/v1 Event, validation: the message of an event."""
_LONGEST_QUEUE = 200
"""More is dropped, with a log line: the kubelet tries again, and so does its error."""
_ATTEMPTS = 30
_PAUSE_SECONDS = 2.0

Object = dict[str, Any]


def event_of(node: str, namespace: str, claim: str, uid: str, message: str, now: str) -> Object:
    """Event (core/v1) on a claim that cannot be prepared.

    The same failure gives the same name, so that the API server refuses to have it twice.
    """
    message = message[:_LONGEST_MESSAGE]
    digest = hashlib.sha256(f"{uid} {message}".encode()).hexdigest()[:16]
    reference = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim"}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(claim, digest), "namespace": namespace},
        "involvedObject": {**reference, "namespace": namespace, "name": claim, "uid": uid},
        "type": "Warning",
        "reason": REASON,
        "message": message,
        "source": {"component": DRIVER_NAME, "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def device_statuses(node: str, claim: PreparedClaim, devices: Sequence[Device]) -> list[Object]:
    """``status.devices`` (resource.k8s.io/v1) of a prepared claim, without times.

    ``devices`` are all that the node publishes; one that is not among them is left out.
    """
    pools = owners(devices)
    known = {device.name: device for device in devices}
    found = []
    for entry in claim.devices:
        if (device := known.get(entry.name)) is None:
            continue
        ready = {"type": "Ready", "status": "True", "reason": "Prepared", "message": "prepared by the node agent"}
        if device.problem:
            ready |= {"status": "False", "reason": device.problem, "message": "the device has a problem"}
        found.append(
            {
                "driver": DRIVER_NAME,
                "pool": pool_name(node, pools[device.name]),
                "device": device.published_name,
                "conditions": [ready],
                "data": {"uuid": device.uuid, "pciAddress": device.pci_address, "node": node},
            }
        )
    return found


class Reporter:
    """Tells users what became of their claims."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._told: dict[str, list[Object]] = {}
        self._queue: queue.Queue[tuple[str, Callable[[], object]]] = queue.Queue(_LONGEST_QUEUE)
        threading.Thread(target=self._run, name="reports", daemon=True).start()

    def failed(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """Write an event on a claim that cannot be prepared."""
        event = event_of(self._node, namespace, claim, uid, message, _now())
        path = f"/api/v1/namespaces/{quote(namespace)}/events"
        self._submit(f"event on claim {namespace}/{claim}", lambda: self._client.create(path, event))

    def claims(self, claims: Sequence[PreparedClaim], devices: Sequence[Device]) -> None:
        """Bring ``status.devices`` of all prepared claims up to date, by server-side apply of what changed."""
        uids = {claim.uid for claim in claims}
        self._told = {uid: told for uid, told in self._told.items() if uid in uids}
        for claim in claims:
            statuses = device_statuses(self._node, claim, devices)
            if statuses and self._told.get(claim.uid) != statuses:
                self._told[claim.uid] = statuses
                self._submit(f"status of claim {claim}", self._apply(claim, statuses))

    def _apply(self, claim: PreparedClaim, statuses: Sequence[Mapping[str, Any]]) -> Callable[[], object]:
        now = _now()
        content = [
            {**status, "conditions": [{**item, "lastTransitionTime": now} for item in status["conditions"]]}
            for status in statuses
        ]
        # The uid lets the API server refuse it for a claim that was made anew.
        metadata = {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid}
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": metadata,
            "status": {"devices": content},
        }
        path = f"{claim_path(claim.namespace, claim.name)}/status"
        return lambda: self._client.apply(path, body, field_manager(self._node))

    def _submit(self, what: str, write: Callable[[], object]) -> None:
        try:
            self._queue.put_nowait((what, write))
        except queue.Full:
            klog.warning("Too much to report, dropped", what=what)

    def _run(self) -> None:
        while True:
            what, write = self._queue.get()
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    write()
                    break
                except ApiUnreachableError as error:
                    if attempt == _ATTEMPTS:
                        klog.error("Not reported", what=what, err=error)
                    time.sleep(_PAUSE_SECONDS)
                except ApiError as error:
                    # An event that is there already; a claim that is gone or was made anew.
                    if error.status not in (http.client.CONFLICT, http.client.NOT_FOUND):
                        klog.error("Not reported", what=what, err=error)
                    break


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
