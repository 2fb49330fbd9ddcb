"""The controller: tasks that belong to no node.

It reports how many devices the cluster has, and deletes the slices of nodes that
are gone and whose agent can no longer do it.
"""

from __future__ import annotations

import threading
from collections import Counter

from mock_accel_dra import DRIVER_NAME, klog
from mock_accel_dra.api import NODES, SLICES, ApiError, Client, Object
from mock_accel_dra.health import HealthServer
from mock_accel_dra.metrics import ControllerMetrics
from mock_accel_dra.settings import ControllerSettings
from mock_accel_dra.watch import Wake, follow

_SELECTOR = {"fieldSelector": f"spec.driver={DRIVER_NAME}"}
_RETRY_SECONDS = 5.0


class Controller:
    """One run of the controller."""

    def __init__(self, settings: ControllerSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._metrics = ControllerMetrics()
        self._wake = Wake()
        self._stopping = threading.Event()
        self._count: int | None = None

    def stop(self) -> None:
        """Make ``run`` return; other threads may call it."""
        self._stopping.set()
        self._wake()

    def ready(self) -> bool:
        """Whether the inventory was taken at least once."""
        return self._count is not None

    def run(self) -> None:
        """Run until ``stop``. Raises OSError if the port for probes is not available."""
        health = None
        if self._settings.health_port:
            health = HealthServer(self._settings.health_port, self.ready, self._metrics.text)
        self._follow(SLICES, _SELECTOR)
        self._follow(NODES, {}, frozenset({"DELETED"}))
        timeout = 0.0
        while not self._stopping.is_set():
            self._wake.wait(timeout)
            if self._stopping.is_set():
                break
            try:
                self.sync()
                timeout = self._settings.resync_interval
            except ApiError as error:
                self._metrics.api_error()
                klog.error("Inventory failed", err=error, retrySeconds=_RETRY_SECONDS)
                timeout = _RETRY_SECONDS
        klog.info(klog.STATE, "Stopping")
        if health is not None:
            health.close()

    def sync(self) -> None:
        """Take the inventory once and delete stale slices. Raises ApiError."""
        # List slices first: a node exists before its slices do.
        slices = self._client.get(SLICES, _SELECTOR)["items"] or []
        nodes = self._client.get(NODES, {}, metadata_only=True)["items"] or []
        names = {node["metadata"]["name"] for node in nodes}
        kept = []
        for item in slices:
            node = item["spec"].get("nodeName", "")
            if node in names:
                kept.append(item)
            elif self._client.delete(f"{SLICES}/{item['metadata']['name']}"):
                self._metrics.stale_slice_deleted()
                klog.info(klog.STATE, "Deleted slice of a node that is gone", slice=item["metadata"]["name"], node=node)
        self._report(kept)

    def _report(self, slices: list[Object]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for item in slices:
            for device in item["spec"].get("devices") or []:
                kind = device.get("attributes", {}).get("deviceType", {}).get("string", "")
                counts[item["spec"]["nodeName"], kind] += 1
        total, nodes = counts.total(), len({node for node, _ in counts})
        klog.info(klog.SCAN, "Inventory", devices=total, nodes=nodes)
        if self._count is not None and total != self._count:
            klog.info(klog.STATE, f"Device count changed: {self._count} -> {total}", nodes=nodes)
        if total != self._count:
            # At every change, not only at the first: in a restored cluster devices are plugged after this start.
            klog.info(klog.STATE, f"Discovered {total} devices", nodes=nodes)
        self._count = total
        self._metrics.devices(counts)

    def _follow(self, path: str, params: dict[str, str], kinds: frozenset[str] | None = None) -> None:
        arguments = (self._client, path, params, self._wake, self._stopping, *((kinds,) if kinds else ()))
        threading.Thread(target=follow, args=arguments, name=path, daemon=True).start()
