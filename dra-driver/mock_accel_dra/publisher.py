"""Keeps the ResourceSlices of this node what its devices say."""

from __future__ import annotations

import http.client
from collections.abc import Sequence

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.api import NODES, SLICES, ApiError, Client
from mock_accel_dra.discovery import Device
from mock_accel_dra.slices import Changes, changes, desired

_ATTEMPTS = 3
_RETRIED = (http.client.CONFLICT, http.client.NOT_FOUND)


class Publisher:
    """Publishes for one node; for one thread."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._node_uid = ""

    @property
    def selector(self) -> dict[str, str]:
        """Parameters that list this node's slices of this driver, and no others."""
        return {"fieldSelector": f"spec.nodeName={self._node},spec.driver={DRIVER_NAME}"}

    def publish(self, devices: Sequence[Device]) -> int:
        """Make the API server show ``devices``; the number of slices written or deleted.

        Writes only what differs. Raises ApiError; to call again is safe.
        """
        written = 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                known = self._node_uid
                plan = self._plan(devices)
                # A node that was deleted and came back has another uid, and its
                # slices went away with the old one.
                if plan and known and self._read_node_uid() != known:
                    plan = self._plan(devices)
                written += self._execute(plan)
                return written
            except ApiError as error:
                if error.status not in _RETRIED or attempt == _ATTEMPTS:
                    raise
                klog.info(klog.FLOW, "Slices changed meanwhile", err=error, attempt=attempt)
        return written

    def _plan(self, devices: Sequence[Device]) -> Changes:
        if not self._node_uid:
            self._read_node_uid()
        published = self._client.get(SLICES, self.selector)["items"] or []
        return changes(desired(self._node, self._node_uid, devices), published)

    def _read_node_uid(self) -> str:
        node = self._client.get(f"{NODES}/{self._node}", metadata_only=True)
        self._node_uid = node["metadata"]["uid"]
        return self._node_uid

    def _execute(self, plan: Changes) -> int:
        for name in plan.delete:
            klog.info(klog.OPERATION, "Delete slice", slice=name)
            self._client.delete(f"{SLICES}/{name}")
        for item in plan.update:
            klog.info(klog.OPERATION, "Update slice", slice=item["metadata"]["name"], pool=item["spec"]["pool"])
            self._client.update(f"{SLICES}/{item['metadata']['name']}", item)
        for item in plan.create:
            klog.info(klog.OPERATION, "Create slice", slice=item["metadata"]["name"], pool=item["spec"]["pool"])
            self._client.create(SLICES, item)
        return len(plan.delete) + len(plan.update) + len(plan.create)
