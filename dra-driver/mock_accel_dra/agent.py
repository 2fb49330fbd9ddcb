"""The node agent: serves the kubelet, and publishes the node's devices while it does.

Order of start: what an earlier driver left is put right, then service socket,
slices, registration. The kubelet deletes a node's slices when it starts, and
30 s after the driver is gone; the watch on them brings them back while this
process lives. While a new driver takes over, both serve and the new one publishes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from mock_accel_dra import discovery, klog, rpc, sockets, uevents
from mock_accel_dra.api import SLICES, ApiError, Client
from mock_accel_dra.device_health import HealthFeed
from mock_accel_dra.discovery import Device
from mock_accel_dra.durations import Durations, since_process_start
from mock_accel_dra.inventory import Inventory
from mock_accel_dra.prepare import Preparer
from mock_accel_dra.publisher import Publisher
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.reports import Reporter
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.state import State, boot_id
from mock_accel_dra.watch import Wake, follow

_FIRST_PAUSE_SECONDS = 1.0
_HEALTH_SCANS, _HEALTH_SECONDS = 2, 30.0
"""How many looks at a device may fail to come, and how late the last may be, before its health is unknown."""
_GRACE_SECONDS = 20.0
"""For calls of the kubelet that are under way when the agent stops; a pod has 30 s."""


class NodeAgent:
    """One run of the driver on one node."""

    def __init__(self, settings: AgentSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._publisher = Publisher(client, settings.node_name)
        self._state = State(settings.state_file)
        self._inventory = Inventory()
        self._health = HealthFeed(settings.node_name)
        self._reconciled = False
        self._reporter = Reporter(client, settings.node_name)
        self._devices: list[Device] | None = None
        self._unreadable: dict[str, str] = {}
        """Devices that were never read, and why."""
        self.claim_durations = Durations(("operation", "result"))
        self.scan_durations = Durations()
        self.start_seconds: float | None = None
        """From the start of the process until the kubelet had registered it for the first time."""
        self._wake = Wake()
        self._stopping = threading.Event()
        self._published = False
        self._registered = False

    def stop(self) -> None:
        """Let ``run`` end; may be called by a signal handler or another thread."""
        self._stopping.set()
        self._wake()

    def ready(self) -> bool:
        """The kubelet knows the driver, and the devices are published."""
        return self._registered and self._published

    @property
    def api_errors(self) -> int:
        """Requests to the API server that failed."""
        return self._client.errors

    @property
    def state_file(self) -> Path:
        """The checkpoint."""
        return self._settings.state_file

    def devices_left_out(self) -> dict[str, str]:
        """Devices of this node that are not published, and why."""
        return {**self._unreadable, **self._publisher.left_out}

    def fields_changed(self) -> list[tuple[str, str]]:
        """Slices, and their fields, that the API server keeps otherwise than they were written."""
        return self._publisher.fields_changed

    def devices_by_state(self) -> dict[str, int]:
        """Number of this node's devices that are free and allocated, by the last scan and the prepared claims."""
        allocated = self._allocated()
        names = {device.name for device in self._devices or ()}
        return {"free": len(names - allocated), "allocated": len(names & allocated)}

    def _allocated(self) -> set[str]:
        return {device.name for claim in self._state.claims() for device in claim.devices if not device.admin}

    def run(self) -> None:
        """Serve until ``stop``. Raises rpc.ServeError, OSError when a socket or the state cannot be had."""
        settings = self._settings
        settings.plugin_dir.mkdir(parents=True, exist_ok=True)
        sockets.remove_stale(settings.registration_socket, settings.registration_pattern)
        sockets.remove_stale(settings.service_socket, settings.service_pattern)
        self._state = State.load(settings.state_file, boot_id())
        preparer = Preparer(
            api=self._client,
            node=settings.node_name,
            sysfs=settings.sysfs_root,
            cdi_folder=settings.cdi_root,
            state=self._state,
        )
        self._reconciler = Reconciler(
            api=self._client,
            node=settings.node_name,
            sysfs=settings.sysfs_root,
            cdi_folder=settings.cdi_root,
            state=self._state,
            preparer=preparer,
        )
        # Even when the API server is away: the kubelet needs us for what is prepared already.
        failed = not self._reconcile()
        service = rpc.serve(
            settings.service_socket,
            rpc.dra_handler(preparer, self.claim_durations, self),
            rpc.health_handler(self._health, _HEALTH_SCANS * settings.rescan_interval + _HEALTH_SECONDS),
        )
        registration: grpc.Server | None = None
        try:
            failed = not self._publish() or failed
            handler = rpc.registration_handler(settings.service_socket, self._on_registration)
            registration = rpc.serve(settings.registration_socket, handler)
            self._start_helpers()
            self._follow_devices(failed)
        finally:
            klog.info(klog.STATE, "Stopping", node=settings.node_name)
            if registration is not None:
                settings.registration_socket.unlink(missing_ok=True)  # no new calls from here on
                registration.stop(None).wait()
            self._health.close()
            service.stop(_GRACE_SECONDS).wait()
            settings.service_socket.unlink(missing_ok=True)

    def _reconcile(self) -> bool:
        try:
            self._reconciler.run()
        except (ApiError, OSError) as error:
            klog.error("Prepared claims are not compared with the cluster yet", err=error)
            return False
        self._reconciled = True
        return True

    def _follow_devices(self, failed: bool) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            self._wake.wait(pause if failed else self._settings.rescan_interval)
            if self._stopping.is_set():
                return
            was_failed = failed
            failed = not ((self._reconciled and not self._state.lost) or self._reconcile())
            failed = not self._publish() or failed
            pause = min(2 * pause, self._settings.rescan_interval) if was_failed and failed else _FIRST_PAUSE_SECONDS

    def _publish(self) -> bool:
        begin = time.monotonic()
        scan = discovery.scan(self._settings.sysfs_root)
        seconds = time.monotonic() - begin
        self.scan_durations.observe(seconds)
        devices = self._inventory.update(scan, self._state.prepared())
        self._health.update(devices)
        self._unreadable = self._inventory.unreadable
        known = None if self._devices is None else [device.name for device in self._devices]
        self._devices = devices
        self.changed()
        klog.info(klog.SCAN, "Scanned devices", count=len(devices), seconds=round(seconds, 4))
        names = [device.name for device in devices]
        if names != known:
            before = known or []
            added = [name for name in names if name not in before]
            removed = [name for name in before if name not in names]
            klog.info(klog.STATE, "Devices of this node", count=len(names), added=added, removed=removed)
        if sockets.replaced(self._settings.registration_socket, self._settings.registration_pattern):
            klog.info(klog.FLOW, "A newer driver publishes")
            return True
        try:
            written = self._publisher.publish(devices, self._allocated())
        except ApiError as error:
            klog.error("Slices are not published", err=error)
            return False
        if written or not self._published:
            left_out = len(self._publisher.left_out)
            klog.info(klog.STATE, "Published slices", devices=len(devices) - left_out, written=written)
        self._published = True
        return True

    def failed(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """Tell the user of a claim that it cannot be prepared."""
        self._reporter.failed(namespace, claim, uid, message)

    def changed(self) -> None:
        """Tell the users of claims about their devices, when these or the claims have changed."""
        self._reporter.claims(self._state.claims(), self._devices or ())

    def _on_registration(self, registered: bool) -> None:
        self._registered = registered
        if registered and self.start_seconds is None:
            self.start_seconds = since_process_start()
            klog.info(klog.STATE, "Serving the kubelet", seconds_since_start=round(self.start_seconds, 2))
        self._wake()  # a kubelet that has just started deletes the slices

    def _start_helpers(self) -> None:
        """What can come later than serving: probes, kernel events, the watch on our slices."""
        # Imported here because it costs time and the kubelet does not wait for it.
        from mock_accel_dra.health import HealthServer

        if self._settings.health_port:
            HealthServer(self._settings.health_port, self.ready, self._metrics)
        if self._settings.kernel_events:
            self._listen_to_kernel()
        selector = self._publisher.selector
        self._thread("slices", lambda: follow(self._client, SLICES, selector, self._wake, self._stopping))

    def _metrics(self) -> bytes:
        # Imported when somebody asks for the first time: it takes longer than all else at the start.
        from mock_accel_dra.metrics import AgentMetrics

        return AgentMetrics(self).text()

    def _listen_to_kernel(self) -> None:
        try:
            receiver = uevents.open_socket()
        except OSError as error:
            klog.error("No kernel events; devices are found by rescan only", err=error)
        else:
            self._thread("uevents", lambda: uevents.listen(receiver, self._wake, self._stopping))

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()
