"""Attach devices of claims before pods are bound to this node (feature BindingConditions).

API: resource.k8s.io/v1, ``bindingConditions`` and ``bindingFailureConditions`` of an allocation's results. The
scheduler allocates a claim, and binds its pod when ``status.devices`` has the conditions of each device. It looks
every 5 s; after a failure condition, or after 10 min, it allocates the claim again (pkg/scheduler, dynamicresources).

To attach a device is to test it: it is plugged, its registers answer, and it has firmware. A device that fails gets a
taint, so that the scheduler takes another one, until its problem ends.
"""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mock_accel_dra import allocations, discovery, klog, problems
from mock_accel_dra.api import CLAIMS, ApiError, Client, Object, claim_path, timestamp
from mock_accel_dra.discovery import Device, DeviceError
from mock_accel_dra.features import Feature
from mock_accel_dra.identity import of
from mock_accel_dra.names import attach_manager
from mock_accel_dra.reports import status_key, with_times
from mock_accel_dra.settings import AgentSettings
from mock_accel_dra.slice_features import ATTACH_FAILED, ATTACHED
from mock_accel_dra.watch import Wake, follow

_RETRY_SECONDS = 2.0
_RETRIED = (http.client.CONFLICT, http.client.UNPROCESSABLE_ENTITY, http.client.NOT_FOUND)
"""The claim has changed since it was read: its change is the next event of the watch."""
_USABLE = ("", problems.HOT)


def start(
    settings: AgentSettings,
    client: Client,
    *,
    failed: Callable[[], object],
    replaced: Callable[[], bool],
    stopping: threading.Event,
) -> Attacher | None:
    """A running attacher, if the feature is on; the arguments are those of ``Attacher`` and its ``run``."""
    if Feature.BINDING_CONDITIONS not in settings.features:
        return None
    attacher = Attacher(client, settings.node_name, settings.sysfs_root, failed, replaced)
    arguments = (stopping, settings.rescan_interval)
    threading.Thread(target=attacher.run, args=arguments, name="attach", daemon=True).start()
    return attacher


class Attacher:
    """Attaches devices of claims that are allocated here. Not thread-safe, except for ``marked``."""

    def __init__(
        self, client: Client, node: str, sysfs: Path, failed: Callable[[], object], replaced: Callable[[], bool]
    ) -> None:
        """``failed`` is called when a device could not be attached, and its slice must change.

        ``replaced`` says whether a newer agent does the work.
        """
        self._client = client
        self._node = node
        self._sysfs = sysfs
        self._on_failure = failed
        self._replaced = replaced
        self._failed: dict[str, str] = {}
        """Problems of devices that could not be attached, by their names."""
        self._lock = threading.Lock()
        self.wake = Wake()
        """Call it so that ``run`` looks at once."""

    def marked(self, devices: Iterable[Device]) -> list[Device]:
        """``devices``, those that could not be attached with the reason; forgets those whose problem has ended."""
        devices = list(devices)
        with self._lock:
            sick = {device.name for device in devices if device.problem}
            self._failed = {name: problem for name, problem in self._failed.items() if name in sick}
            return [replace(device, detached=self._failed.get(device.name, "")) for device in devices]

    def run(self, stopping: threading.Event, interval: float) -> None:
        """Look at claims whenever one changes, and every ``interval`` seconds, until ``stopping`` is set."""
        arguments: tuple[object, ...] = (self._client, CLAIMS, {}, self.wake, stopping)
        threading.Thread(target=follow, args=arguments, name="claims", daemon=True).start()
        timeout = 0.0
        while not stopping.is_set():
            self.wake.wait(timeout)
            if stopping.is_set() or self._replaced():
                timeout = interval
                continue
            try:
                self.look()
                timeout = interval
            except ApiError as error:
                klog.warning("Claims are not looked at for devices to attach", err=error, retrySeconds=_RETRY_SECONDS)
                timeout = _RETRY_SECONDS

    def look(self) -> None:
        """Attach what allocated claims need, and report it to them. Raises ApiError."""
        for claim in self._client.get(CLAIMS, {})["items"] or []:
            needed = [result for result in allocations.results_here(claim, self._node) if _asks(result)]
            if needed and (statuses := self._statuses(claim, needed)):
                self._report(claim, statuses)

    def _statuses(self, claim: Object, needed: Sequence[Object]) -> list[Object]:
        """``status.devices`` of all ``needed`` results; empty if the claim already has it."""
        present = {status_key(item): item for item in claim["status"].get("devices") or []}
        found, is_new = [], False
        for result in needed:
            before = {item["type"]: item for item in present.get(status_key(result), {}).get("conditions") or ()}
            conditions = [before[name] for name in (ATTACHED, ATTACH_FAILED) if name in before]
            if len(conditions) < 2:
                conditions, is_new = self._attach(result["device"]), True
            share = {"shareID": result["shareID"]} if result.get("shareID") else {}
            key = {name: result[name] for name in ("driver", "pool", "device")}
            found.append({**key, **share, "conditions": conditions})
        return with_times(found, list(present.values()), timestamp()) if is_new else []

    def _attach(self, published: str) -> list[Object]:
        """Conditions of the device of this node with the name ``published`` after an attempt to attach it."""
        name, problem, message = published, problems.UNPLUGGED, problems.message(problems.UNPLUGGED)
        try:
            names = os.listdir(discovery.class_folder(self._sysfs))  # noqa: PTH208 - only names are needed
            name = next((name for name in names if discovery.published_name(name) == published), published)
            device = discovery.read_device(self._sysfs, name)
            problem, message = device.problem, problems.message(device.problem)
            if problem in _USABLE:
                klog.info(klog.STATE, "Attached device", device=name)
                return _conditions("Attached", f"device {name} ({of(device)}) answers", failed=False)
        except FileNotFoundError:
            pass
        except (OSError, DeviceError) as error:
            problem, message = problems.NO_ANSWER, str(error)
        klog.warning("Device cannot be attached", device=name, problem=problem, err=message)
        with self._lock:
            self._failed[name] = problem
        self._on_failure()
        return _conditions(problem, f"device {name}: {message}", failed=True)

    def _report(self, claim: Object, statuses: Sequence[Object]) -> None:
        metadata = claim["metadata"]
        # With the version, the API server refuses a report on an earlier allocation of the same device.
        names = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": names,
            "status": {"devices": statuses},
        }
        path = claim_path(metadata["namespace"], metadata["name"])
        try:
            self._client.apply(f"{path}/status", body, attach_manager(self._node))
        except ApiError as error:
            if error.status not in _RETRIED:
                raise
            klog.info(
                klog.OPERATION, "Claim has changed meanwhile", claim=f"{names['namespace']}/{names['name']}", err=error
            )


def _asks(result: Object) -> bool:
    return ATTACHED in (result.get("bindingConditions") or ())


def _conditions(reason: str, message: str, *, failed: bool) -> list[Object]:
    return [
        {"type": ATTACHED, "status": str(not failed), "reason": reason, "message": message},
        {"type": ATTACH_FAILED, "status": str(failed), "reason": reason, "message": message},
    ]
