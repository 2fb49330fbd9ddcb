"""Reports to users of claims: events if a claim cannot be prepared, ``status.devices`` of prepared claims.

A background thread (`outbox`) writes them, so that the kubelet's call does not wait.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from mock_accel_dra import DRIVER_NAME, events, klog, problems
from mock_accel_dra.api import ApiError, Client, claim_path, timestamp
from mock_accel_dra.discovery import Device
from mock_accel_dra.identity import of
from mock_accel_dra.names import field_manager, pool_name
from mock_accel_dra.outbox import Outbox
from mock_accel_dra.quantities import quantity
from mock_accel_dra.shares import Share
from mock_accel_dra.slices import owners
from mock_accel_dra.state import PreparedClaim, PreparedDevice

_LONGEST_QUEUE = 200
"""Queued events; more are dropped and logged. The kubelet retries, so the same error comes again."""
_REPLACED = "Replaced"
"""Reason if the name of a claim's device now refers to another device."""

Object = dict[str, Any]


def device_statuses(node: str, claim: PreparedClaim, devices: Sequence[Device]) -> list[Object]:
    """``status.devices`` (resource.k8s.io/v1) of a prepared claim, without times.

    ``devices`` are all published devices of the node; devices of the claim that are not among them are left out.
    """
    pools = owners(devices)
    known = {device.name: device for device in devices}
    found = []
    for entry in claim.devices:
        if (device := known.get(entry.name)) is None:
            continue
        key = {"driver": DRIVER_NAME, "pool": pool_name(node, pools[device.name]), "device": device.published_name}
        conditions = {"conditions": [_ready(entry, device)]}
        if not entry.shares:
            found.append({**key, **conditions, "data": _data(entry, device, node)})
        for share in entry.shares:
            data = {**_data(entry, device, node), "share": _share(share)}
            found.append({**key, "shareID": share.id, **conditions, "data": data})
    return found


def _ready(entry: PreparedDevice, device: Device) -> Object:
    ready = {"type": "Ready", "status": "True", "reason": "Prepared", "message": "prepared by the node agent"}
    if not entry.is_device(device):
        message = f"the device was {entry.identity}; its name is now that of {device.uuid} at {device.pci_address}"
        ready |= {"status": "False", "reason": _REPLACED, "message": message}
    elif device.problem:
        ready |= {"status": "False", "reason": device.problem, "message": problems.message(device.problem)}
    return ready


def _data(entry: PreparedDevice, device: Device, node: str) -> Object:
    identity = entry.identity or of(device)
    data = {"uuid": identity.uuid, "pciAddress": identity.pci_address, "node": node}
    return data | ({"configuration": entry.configuration.parameters()} if entry.configuration else {})


def _share(share: Share) -> Object:
    limits = {} if share.is_whole else {"windowOffset": quantity(share.offset), "windowSize": quantity(share.size)}
    return {"memory": quantity(share.memory), **limits, **({"maxJobs": share.jobs} if share.jobs else {})}


def with_times(statuses: Sequence[Object], present: Sequence[Object], now: str) -> list[Object]:
    """``statuses`` with times: a condition with the same status in ``present`` (``status.devices``) keeps its time."""
    before = {
        (*status_key(item), condition["type"], condition["status"]): condition.get("lastTransitionTime")
        for item in present
        for condition in item.get("conditions") or ()
    }
    return [
        {
            **status,
            "conditions": [
                {**item, "lastTransitionTime": before.get((*status_key(status), item["type"], item["status"])) or now}
                for item in status["conditions"]
            ],
        }
        for status in statuses
    ]


def shows(present: Sequence[Object], statuses: Sequence[Object]) -> bool:
    """Whether ``present`` (``status.devices``) contains all of ``statuses``, ignoring times.

    A device may have more conditions, of another field manager (`binding`).
    """
    found = {status_key(item): item for item in present}
    return all(
        (item := found.get(status_key(status)))
        and item.get("data") == status["data"]
        and _without_times(item.get("conditions") or ()) >= _without_times(status["conditions"])
        for status in statuses
    )


def status_key(status: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What an entry of ``status.devices``, or a result of an allocation, is about."""
    return status["driver"], status["pool"], status["device"], status.get("shareID") or ""


def _without_times(conditions: Sequence[Mapping[str, Any]]) -> set[tuple[str, ...]]:
    fields = ("type", "status", "reason", "message")
    return {tuple(str(item.get(field)) for field in fields) for item in conditions}


class Reporter:
    """Reports the state of claims to their users; thread-safe."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._lock = threading.Lock()
        self._wanted: dict[str, list[Object]] = {}
        self._told: dict[str, list[Object]] = {}
        """Statuses that the API server has accepted, by the uid of the claim."""
        self._not_kept: set[str] = set()
        self._outbox = Outbox("reports", _LONGEST_QUEUE)

    def failed(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """Queue an event on a claim that cannot be prepared."""
        event = events.failure(self._node, namespace, claim, uid, message, timestamp())
        self._send(event, f"event on claim {namespace}/{claim}")

    def about_device(self, device: Device, reason: str, message: str, claims: Sequence[PreparedClaim]) -> None:
        """Queue an event about ``device`` on the node, and on those of ``claims`` that have it."""
        text, now = f"device {device.name} ({of(device)}): {message}", timestamp()
        self._send(events.on_node(self._node, reason, text, now), f"event on node {self._node}")
        for claim in claims:
            if any(entry.is_device(device) for entry in claim.devices):
                self._send(events.on_claim(self._node, claim, reason, text, now), f"event on claim {claim}")

    def _send(self, event: Object, what: str) -> None:
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{quote(namespace)}/events"
        self._outbox.put(f"event {namespace}/{name}", what, lambda: self._create(path, event), lasting=False)

    def claims(self, claims: Sequence[PreparedClaim], devices: Sequence[Device]) -> None:
        """Update ``status.devices`` of all prepared claims, by server-side apply of changed statuses.

        Claims that are not among ``claims`` are forgotten, because the API server
        clears their status when they are deallocated.
        """
        with self._lock:
            wanted = {claim.uid: device_statuses(self._node, claim, devices) for claim in claims}
            for uid in self._wanted.keys() - wanted.keys():
                self._outbox.drop(uid)
            for claim in claims:
                statuses = wanted[claim.uid]
                pending = self._wanted.get(claim.uid) == statuses and claim.uid not in self._told
                if statuses and not pending and self._told.get(claim.uid) != statuses:
                    self._told.pop(claim.uid, None)
                    self._put(claim, statuses)
            self._wanted = wanted
            self._told = {uid: told for uid, told in self._told.items() if uid in wanted}
            self._not_kept &= wanted.keys()

    def compare(self, found: Mapping[str, Object]) -> None:
        """Forget accepted statuses that the API server no longer has; ``found`` are its claims, by uid."""
        with self._lock:
            for uid, claim in found.items():
                status = claim.get("status", {})
                is_missing = uid in self._told and not shows(status.get("devices") or (), self._told[uid])
                if is_missing and status.get("allocation") and uid not in self._not_kept:
                    klog.info(klog.STATE, "status.devices of a claim has changed, writing it again", uid=uid)
                    # Forget the wanted status, too, so that `claims` writes it again.
                    del self._told[uid]
                    self._wanted.pop(uid, None)

    def _put(self, claim: PreparedClaim, statuses: list[Object]) -> None:
        self._outbox.put(claim.uid, f"status of claim {claim}", partial(self._apply, claim, statuses), lasting=True)

    def _apply(self, claim: PreparedClaim, statuses: list[Object]) -> None:
        """Write ``statuses`` to the claim unless it already has them. Raises ApiError."""
        path = claim_path(claim.namespace, claim.name)
        try:
            found = self._client.get(path)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            found = {"metadata": {"uid": "none"}}
        status = found.get("status", {})
        # A claim that is gone, replaced or deallocated has no user to inform.
        if found["metadata"]["uid"] == claim.uid and status.get("allocation"):
            present = status.get("devices") or []
            if not shows(present, statuses):
                self._write(claim, path, with_times(statuses, present, timestamp()))
        with self._lock:
            if self._wanted.get(claim.uid) == statuses:
                self._told[claim.uid] = statuses

    def _write(self, claim: PreparedClaim, path: str, content: list[Object]) -> None:
        # With the uid, the API server refuses the write if the claim was replaced.
        metadata = {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid}
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": metadata,
            "status": {"devices": content},
        }
        written = self._client.apply(f"{path}/status", body, field_manager(self._node))
        kept = shows(written.get("status", {}).get("devices") or (), content)
        with self._lock:
            if kept:
                self._not_kept.discard(claim.uid)
            elif claim.uid not in self._not_kept:
                self._not_kept.add(claim.uid)
                klog.warning(
                    "The API server drops or changes status.devices, not written again",
                    claim=claim,
                    hint="is its feature gate DRAResourceClaimDeviceStatus off?",
                )

    def _create(self, path: str, event: Object) -> None:
        try:
            self._client.create(path, event)
        except ApiError as error:
            # k8s.io/apimachinery, errors.NewAlreadyExists; any other conflict is temporary.
            is_there = error.status == http.client.CONFLICT and "already exists" in str(error)
            # NotFound refers to the namespace, and without it the claim is gone, too.
            if not is_there and error.status != http.client.NOT_FOUND:
                raise
