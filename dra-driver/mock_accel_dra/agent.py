"""The node agent: serves the kubelet and publishes the node's devices.

Order of a start: reconcile what an earlier agent left, service socket, slices,
registration. After each scan, changes made by others are repaired. When the kernel
announces that a device has changed, only that device is read.

The kubelet deletes a node's slices when it starts, and 30 s after the agent is
gone; this process watches them and restores them. During an update two agents
serve at the same time, and only the newer one publishes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from mock_accel_dra import binding, discovery, figures, klog, metadata_files, problems, rpc, sockets, uevents
from mock_accel_dra.api import SLICES, ApiError, Client
from mock_accel_dra.device_events import DeviceEvents
from mock_accel_dra.device_health import HealthFeed
from mock_accel_dra.discovery import Constants, Device, DeviceError, Scan
from mock_accel_dra.durations import Durations, since_process_start
from mock_accel_dra.inventory import Inventory
from mock_accel_dra.kubelet import Presence
from mock_accel_dra.prepare import Preparer
from mock_accel_dra.publisher import Publisher
from mock_accel_dra.reconcile import Reconciler
from mock_accel_dra.recovery import Recovery
from mock_accel_dra.reports import Reporter
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.stale_claims import StaleClaims
from mock_accel_dra.state import State, boot_id
from mock_accel_dra.watch import Wake, follow

_FIRST_PAUSE_SECONDS = 1.0
_HEALTH_SCANS, _HEALTH_SECONDS = 2, 30.0
"""Scans that may be missed, and delay of the last one, before a device's health is unknown."""
_GRACE_SECONDS = 20.0
"""Time for the kubelet's running calls to finish when the agent stops; a pod has 30 s."""


class NodeAgent:
    """One run of the driver on one node."""

    def __init__(self, settings: AgentSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._publisher = Publisher(client, settings.node_name, settings.features)
        self._state = State(settings.state_file)
        self._inventory = Inventory()
        self._health = HealthFeed(settings.node_name)
        self._reconciled = False
        self._kubelet = Presence()
        self._reporter = Reporter(client, settings.node_name)
        self._reporting = threading.Lock()
        self._events = DeviceEvents(self._reporter, self._state)
        self._devices: list[Device] | None = None
        self._constants: dict[str, Constants] = {}
        self._unreadable: dict[str, str] = {}
        """Devices that were never read successfully, with the reason."""
        self.claim_durations = Durations(("operation", "result"))
        self.scan_durations = Durations()
        self.start_seconds: float | None = None
        """From the start of the process until the kubelet first registered it."""
        self._attacher: binding.Attacher | None = None
        self._wake = Wake()
        self._stopping = threading.Event()
        self._published = False
        self._registered = False

    def stop(self) -> None:
        """Make ``run`` return; other threads may call it."""
        self._stopping.set()
        self._wake()

    def ready(self) -> bool:
        """Whether the kubelet has registered the driver and the devices are published."""
        return self._registered and self._published

    @property
    def api_errors(self) -> int:
        """Number of failed requests to the API server."""
        return self._client.errors

    @property
    def state_file(self) -> Path:
        """The checkpoint."""
        return self._settings.state_file

    def devices_left_out(self) -> dict[str, str]:
        """Devices of this node that are not published, with the reason."""
        return {**self._unreadable, **self._publisher.left_out}

    def fields_changed(self) -> list[tuple[str, str]]:
        """Slices and their fields that the API server changed on write."""
        return self._publisher.fields_changed

    def device_figures(self) -> dict[str, figures.Figures]:
        """Counters and temperature of each device that responds, by its name."""
        silent = (problems.NO_ANSWER, problems.UNPLUGGED)
        names = [device.name for device in self._devices or () if device.problem not in silent]
        return {name: figures.read(self._settings.sysfs_root, name) for name in names}

    def device_problems(self) -> dict[str, str]:
        """Problems of devices, by their names; devices without one are missing."""
        return {device.name: device.problem for device in self._devices or () if device.problem}

    def device_resets(self) -> Mapping[tuple[str, str], int]:
        """Resets of devices by the driver, by device and result."""
        return self._events.resets

    def devices_by_state(self) -> dict[str, int]:
        """Number of free and allocated devices of this node, from the last scan and the prepared claims."""
        allocated = self._allocated()
        names = {device.name for device in self._devices or ()}
        return {"free": len(names - allocated), "allocated": len(names & allocated)}

    def _allocated(self) -> set[str]:
        return {device.name for claim in self._state.claims() for device in claim.devices if not device.admin}

    def run(self) -> None:
        """Serve until ``stop``. Raises rpc.ServeError, OSError when a socket or the state file is not usable."""
        settings = self._settings
        settings.plugin_dir.mkdir(parents=True, exist_ok=True)
        sockets.remove_stale(settings.registration_socket, settings.registration_pattern)
        sockets.remove_stale(settings.service_socket, settings.service_pattern)
        self._state = State.load(settings.state_file, boot_id())
        self._events = DeviceEvents(self._reporter, self._state)
        self._recovery = Recovery(
            sysfs=settings.sysfs_root, state=self._state, observer=self._events, delay=settings.reset_after
        )
        place: dict[str, Any] = {"api": self._client, "node": settings.node_name, "state": self._state}
        place |= {"sysfs": settings.sysfs_root, "cdi_folder": settings.cdi_root}
        files = metadata_files.of(settings, self._state)
        preparer = Preparer(**place, features=settings.features, metadata=files)
        self._reconciler = Reconciler(**place)
        self._stale_claims = StaleClaims(
            api=self._client,
            node=settings.node_name,
            state=self._state,
            preparer=preparer,
            interval=settings.rescan_interval,
            kubelet=self._kubelet.since,
        )
        preparer.on_stale = self._ask_for_stale_claims
        # Serve even while the API server is unreachable: the kubelet must be able to unprepare.
        failed = not self._reconcile()
        service = rpc.serve(
            settings.service_socket,
            rpc.dra_handler(preparer, self.claim_durations, self),
            rpc.health_handler(self._health, _HEALTH_SCANS * settings.rescan_interval + _HEALTH_SECONDS, self._kubelet),
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
            klog.error("Prepared claims are not reconciled yet", err=error)
            return False
        self._reconciled = True
        return True

    def _follow_devices(self, failed: bool) -> None:
        pause = _FIRST_PAUSE_SECONDS
        self._recover()
        while not self._stopping.is_set():
            due = time.monotonic() + (pause if failed else self._settings.rescan_interval)
            due = min(due, self._recovery.due)
            while self._wake.wait(max(0.0, due - time.monotonic())) and not self._stopping.is_set():
                names = self._wake.devices
                if failed or names is None or time.monotonic() >= due or not self._look_again(names):
                    break
            if self._stopping.is_set():
                return
            was_failed = failed
            failed = not ((self._reconciled and not self._state.lost) or self._reconcile())
            failed = not self._publish() or failed
            self._release_stale_claims()
            self._recover()
            pause = min(2 * pause, self._settings.rescan_interval) if was_failed and failed else _FIRST_PAUSE_SECONDS

    def _look_again(self, names: AbstractSet[str]) -> bool:
        """Read single devices and repair what others changed of them; False if all must be scanned and published.

        All that may have changed is what the slices do not have: the status register and settings.
        """
        if self._publisher.follows_claims or self._state.lost:
            return False
        known = {device.name: device for device in self._devices or ()}
        again = []
        for name in sorted(names):
            try:
                device = discovery.read_device(self._settings.sysfs_root, name, self._constants)
            except (OSError, DeviceError):
                return False
            if (before := known.get(name)) is None:
                return False
            same = replace(before, status=device.status, settings=device.settings, shares=device.shares, detached="")
            if device != same:
                return False
            again.append(device)
        self._repair(Scan(tuple(again), {}))
        klog.info(klog.SCAN, "Read devices again", devices=sorted(names))
        return True

    def _publish(self) -> bool:
        begin = time.monotonic()
        scan = discovery.scan(self._settings.sysfs_root, self._constants)
        seconds = time.monotonic() - begin
        self.scan_durations.observe(seconds)
        devices = self._inventory.update(scan, self._state.prepared())
        devices = self._attacher.marked(devices) if self._attacher else devices
        self._health.update(devices)
        self._unreadable = self._inventory.unreadable
        known = None if self._devices is None else [device.name for device in self._devices]
        self._devices = devices
        self._repair(scan)
        self.changed()
        klog.info(klog.SCAN, "Scanned devices", count=len(devices), seconds=round(seconds, 4))
        names = [device.name for device in devices]
        if names != known:
            before = known or []
            added = [name for name in names if name not in before]
            removed = [name for name in before if name not in names]
            klog.info(klog.STATE, "Devices of this node", count=len(names), added=added, removed=removed)
        if self._is_replaced():
            klog.info(klog.FLOW, "A newer driver publishes")
            return True
        self._events.scanned(self._inventory)
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

    def _repair(self, scan: Scan) -> None:
        """Repair what others changed since the last scan."""
        if not self._reconciled:
            return
        try:
            self._reconciler.repair(scan)
        except OSError as error:
            klog.error("Reconciliation is incomplete", err=error)

    def _is_replaced(self) -> bool:
        """Whether a newer agent does the work for the node."""
        return sockets.replaced(self._settings.registration_socket, self._settings.registration_pattern)

    def _recover(self) -> None:
        """Reset devices that need it."""
        if self._is_replaced():
            return
        try:
            self._recovery.look(self._devices or ())
        except OSError as error:
            klog.error("Devices are not recovered yet", err=error)

    def _release_stale_claims(self) -> None:
        if self._is_replaced():
            return
        try:
            found = self._stale_claims.look()
        except ApiError as error:
            klog.warning("Prepared claims cannot be compared with the cluster", err=error)
            return
        if found is not None:
            self._reporter.compare(found)
            self.changed()

    def _ask_for_stale_claims(self) -> None:
        self._stale_claims.ask()
        self._wake()

    def failed(self, namespace: str, claim: str, uid: str, message: str) -> None:
        """Report to the user of a claim that it cannot be prepared."""
        self._reporter.failed(namespace, claim, uid, message)

    def changed(self) -> None:
        """Report the state of devices to the users of claims, if devices or claims have changed."""
        with self._reporting:  # no thread may overwrite a newer report with an older one
            self._reporter.claims(self._state.claims(), self._devices or ())

    def _on_registration(self, registered: bool) -> None:
        self._registered = registered
        self._kubelet.registered(registered)
        if registered and self.start_seconds is None:
            self.start_seconds = since_process_start()
            klog.info(klog.STATE, "Serving the kubelet", seconds_since_start=round(self.start_seconds, 2))
        self._wake()  # a kubelet deletes the slices when it starts

    def _start_helpers(self) -> None:
        """Start what the kubelet does not wait for: probes, kernel events, the watch on our slices."""
        # Imported here because the import takes time and the kubelet does not need it.
        from mock_accel_dra.health import HealthServer

        if self._settings.health_port:
            HealthServer(self._settings.health_port, self.ready, self._metrics)
        if self._settings.kernel_events:
            self._listen_to_kernel()
        selector = self._publisher.selector
        self._attacher = binding.start(
            self._settings, self._client, failed=self._wake, replaced=self._is_replaced, stopping=self._stopping
        )
        self._thread("slices", lambda: follow(self._client, SLICES, selector, self._wake, self._stopping))

    def _metrics(self) -> bytes:
        # Imported at the first request: this import takes longer than all others of a start.
        from mock_accel_dra.metrics import AgentMetrics

        return AgentMetrics(self).text()

    def _listen_to_kernel(self) -> None:
        try:
            receiver = uevents.open_socket()
        except OSError as error:
            klog.error("No kernel events; devices are found by rescan only", err=error)
        else:
            self._thread("uevents", lambda: uevents.listen(receiver, self._wake.about, self._stopping))

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()
