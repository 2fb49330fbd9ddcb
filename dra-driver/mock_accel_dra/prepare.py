"""Makes the devices of a claim ready for its pods, and takes them back.

Both ways can be repeated at will, and interrupted anywhere: a claim is recorded
before its devices are touched and forgotten when they are released.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import DRIVER_NAME, cdi, discovery, klog
from mock_accel_dra.api import ApiError, claim_path
from mock_accel_dra.discovery import ALLOCATED, FREE, Device, DeviceError
from mock_accel_dra.exclusion import overlapping
from mock_accel_dra.names import is_pool_of
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class PrepareError(Exception):
    """Why a claim cannot be prepared or unprepared, for the kubelet and its user."""


class ClaimReader(Protocol):
    """What is needed of the Kubernetes API."""

    def get(self, path: str) -> dict[str, Any]:
        """Read an object; raises ApiError."""


@dataclass(frozen=True)
class Result:
    """A device of a prepared claim, for the kubelet."""

    request: str
    """Name of the request, without subrequest."""
    pool: str
    device: str
    cdi_id: str
    share_id: str | None = None


def own_results(claim: dict[str, Any]) -> list[dict[str, Any]]:
    """Allocation results of ``claim`` that are this driver's."""
    allocation = claim.get("status", {}).get("allocation") or {}
    results = allocation.get("devices", {}).get("results") or []
    return [result for result in results if result["driver"] == DRIVER_NAME]


class Preparer:
    """Prepares and unprepares claims on one node; safe for threads."""

    def __init__(self, *, api: ClaimReader, node: str, sysfs: Path, cdi_folder: Path, state: State) -> None:
        self._api = api
        self._node = node
        self._sysfs = sysfs
        self._cdi = cdi_folder
        self._state = state

    def prepare(self, namespace: str, name: str, uid: str) -> list[Result]:
        """Set the status of the claim's devices, write their CDI files, and say what the kubelet needs.

        Raises PrepareError; then nothing that this call did is left.
        """
        allocated = self._allocated(namespace, name, uid)
        with self._locked():
            devices: dict[str, Device] = {}
            shared: dict[str, bool] = {}
            results = []
            for item in allocated:
                device = self._find(item["pool"], item["device"])
                devices[device.name] = device
                shared[device.name] = shared.get(device.name, True) and bool(item.get("adminAccess"))
                request = str(item["request"]).partition("/")[0]
                share = item.get("shareID")
                results.append(Result(request, item["pool"], item["device"], cdi.device_id(device.name), share))
            entries = tuple(PreparedDevice(device, admin) for device, admin in shared.items())
            claim = PreparedClaim(uid, namespace, name, entries)
            for entry in entries:
                self._check_free(claim, entry, devices[entry.name])
            self._apply(claim, devices)
        klog.info(klog.STATE, "Prepared claim", claim=f"{namespace}/{name}", uid=uid, devices=list(devices))
        return results

    def unprepare(self, namespace: str, name: str, uid: str) -> None:
        """Undo ``prepare``; a claim that is not prepared is fine. Raises PrepareError; repeat it then."""
        with self._locked():
            claim = self._state.get(uid)
            if claim is None:
                klog.info(klog.OPERATION, "Claim is not prepared", claim=f"{namespace}/{name}", uid=uid)
                return
            try:
                self._release(claim, claim.devices)
                self._state.forget(uid)
            except OSError as error:
                raise PrepareError(f"claim {claim} cannot be released: {error}") from error
        names = [device.name for device in claim.devices]
        klog.info(klog.STATE, "Unprepared claim", claim=f"{namespace}/{name}", uid=uid, devices=names)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._state.locked())
            except OSError as error:
                raise PrepareError(f"the driver's state cannot be used: {error}") from error
            yield

    def _allocated(self, namespace: str, name: str, uid: str) -> list[dict[str, Any]]:
        """The claim's allocation results that are ours."""
        try:
            claim = self._api.get(claim_path(namespace, name))
        except ApiError as error:
            raise PrepareError(f"claim {namespace}/{name} cannot be read: {error}") from error
        found = claim["metadata"]["uid"]
        if found != uid:
            raise PrepareError(f"claim {namespace}/{name} was replaced: expected uid {uid}, found {found}")
        if not claim.get("status", {}).get("allocation"):
            raise PrepareError(f"claim {namespace}/{name} (uid {uid}) is not allocated")
        return own_results(claim)

    def _find(self, pool: str, published: str) -> Device:
        folder = discovery.class_folder(self._sysfs)
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names are all that is wanted
        except FileNotFoundError:
            names = []
        name = next((name for name in names if discovery.published_name(name) == published), None)
        if name is None or not is_pool_of(pool, self._node):
            there = ", ".join(sorted(names)) or "none (is the kernel module loaded?)"
            raise PrepareError(f"device {published} of pool {pool} is not on node {self._node}; devices here: {there}")
        try:
            return discovery.read_device(self._sysfs, name)
        except (OSError, DeviceError) as error:
            raise PrepareError(f"device {name} cannot be read: {error}; look at the node's dmesg") from error

    def _check_free(self, claim: PreparedClaim, entry: PreparedDevice, device: Device) -> None:
        if entry.admin:
            return
        for other, used in self._state.users(entry.name, but=claim.uid):
            if not used.admin:
                raise PrepareError(
                    f"device {entry.name} is still prepared for claim {other}, claim {claim} cannot have it; "
                    f"a pod of claim {other.namespace}/{other.name} may still be ending on node {self._node}"
                )
        before = self._state.get(claim.uid)
        ours = before is not None and entry in before.devices
        if device.status != FREE and not (ours and device.status == ALLOCATED):
            raise PrepareError(
                f"device {entry.name} for claim {claim}: expected status {FREE}, found {device.status}, "
                f"and no claim prepared here has it; look at {discovery.CLASS_PATH}/{entry.name}/status on {self._node}"
            )
        if reason := overlapping(self._state.claims(), claim, entry):
            raise PrepareError(reason)

    def _apply(self, claim: PreparedClaim, devices: dict[str, Device]) -> None:
        """Record the claim and bring its devices about, or leave all as it was."""
        before = self._state.get(claim.uid)
        undo: list[Callable[[], object]] = []
        try:
            if before is not None:  # allocated anew while nobody called unprepare
                self._release(before, set(before.devices) - set(claim.devices))
            self._state.put(claim)
            if before is None:
                undo.append(lambda: self._state.forget(claim.uid))
            for entry in claim.devices:
                self._apply_device(claim, entry, devices[entry.name], undo)
        except (OSError, DeviceError) as error:
            for step in reversed(undo):
                try:
                    step()
                except OSError as failure:
                    # The claim stays recorded, so unprepare will do it.
                    klog.error("Roll-back failed", claim=claim, err=failure)
                    break
            raise PrepareError(f"claim {claim} cannot be prepared: {error}") from error

    def _apply_device(
        self, claim: PreparedClaim, entry: PreparedDevice, device: Device, undo: list[Callable[[], object]]
    ) -> None:
        if not entry.admin and device.status != ALLOCATED:
            undo.append(lambda: self._set_status(device.name, FREE))
            discovery.set_status(self._sysfs, device.name, ALLOCATED)
            found = discovery.get_status(self._sysfs, device.name)
            if found != ALLOCATED:
                raise DeviceError(f"device {device.name}: expected status {ALLOCATED} after writing it, found {found}")
            klog.info(klog.OPERATION, "Set status", device=device.name, status=ALLOCATED)
        if not self._state.users(device.name, but=claim.uid) and not cdi.file_of(self._cdi, device.name).exists():
            undo.append(lambda: cdi.delete(self._cdi, device.name))
        if cdi.write(self._cdi, device):
            klog.info(klog.OPERATION, "Wrote CDI file", device=device.name)

    def _release(self, claim: PreparedClaim, entries: Iterable[PreparedDevice]) -> None:
        """Take devices back from ``claim``, as far as no other claim has them. Raises OSError."""
        for entry in entries:
            others = self._state.users(entry.name, but=claim.uid)
            if not others and cdi.delete(self._cdi, entry.name):
                klog.info(klog.OPERATION, "Removed CDI file", device=entry.name)
            if not entry.admin and all(used.admin for _, used in others):
                self._set_status(entry.name, FREE)

    def _set_status(self, name: str, status: int) -> None:
        try:
            discovery.set_status(self._sysfs, name, status)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            klog.warning("Device is gone, its status is not written", device=name, status=status)
            return
        klog.info(klog.OPERATION, "Set status", device=name, status=status)
