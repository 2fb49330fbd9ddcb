"""Makes the devices of a claim ready for its pods, and takes them back.

Both ways can be repeated at will, and interrupted anywhere: a claim is recorded
before its devices are touched and forgotten when they are released. A call that
its caller has given up changes nothing: the caller may have decided otherwise.
"""

from __future__ import annotations

import errno
import http.client
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import allocations, cdi, discovery, identity, klog
from mock_accel_dra.api import ApiError, claim_path
from mock_accel_dra.discovery import ALLOCATED, FREE, Device, DeviceError
from mock_accel_dra.exclusion import overlapping
from mock_accel_dra.names import is_pool_of
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class PrepareError(Exception):
    """Why a claim cannot be prepared or unprepared, for the kubelet and its user."""


class GivenUpError(PrepareError):
    """The caller does not wait for the answer any more; nothing was changed."""


class _HeldError(PrepareError):
    """Another claim has the device."""

    def __init__(self, device: str, claim: PreparedClaim, holder: PreparedClaim) -> None:
        super().__init__(f"device {device} is held")
        self.device = device
        self.claim = claim
        self.holder = holder


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


def _waits() -> bool:
    """A caller that waits for its answer, however long it takes."""
    return False


class Preparer:
    """Prepares and unprepares claims on one node; safe for threads."""

    def __init__(self, *, api: ClaimReader, node: str, sysfs: Path, cdi_folder: Path, state: State) -> None:
        self._api = api
        self._node = node
        self._sysfs = sysfs
        self._cdi = cdi_folder
        self._state = state
        self.on_left: Callable[[], object] = lambda: None
        """Called when a claim is in the way that no pod may use any more."""

    def prepare(self, namespace: str, name: str, uid: str, given_up: Callable[[], bool] = _waits) -> list[Result]:
        """Set the status of the claim's devices, write their CDI files, and say what the kubelet needs.

        ``given_up`` says whether the caller has gone. Raises PrepareError; then
        nothing that this call did is left.
        """
        claim = self._allocated(namespace, name, uid)
        try:
            return self._prepare(namespace, name, claim, given_up)
        except _HeldError as held:
            # Asked outside of the lock: others need not wait for the API server.
            raise PrepareError(self._explain(held)) from None

    def _prepare(self, namespace: str, name: str, claim: dict[str, Any], given_up: Callable[[], bool]) -> list[Result]:
        uid = claim["metadata"]["uid"]
        with self._locked():
            devices: dict[str, Device] = {}
            shared: dict[str, bool] = {}
            results = []
            for item in allocations.own_results(claim):
                device = self._find(item["pool"], item["device"])
                devices[device.name] = device
                shared[device.name] = shared.get(device.name, True) and bool(item.get("adminAccess"))
                request = str(item["request"]).partition("/")[0]
                share = item.get("shareID")
                results.append(Result(request, item["pool"], item["device"], cdi.device_id(device.name), share))
            entries = tuple(PreparedDevice(name, admin, identity.of(devices[name])) for name, admin in shared.items())
            before = self._state.get(uid)
            prepared = PreparedClaim(
                uid=uid,
                namespace=namespace,
                name=name,
                devices=entries,
                since=(before.since if before else "") or _now(),
                allocated=allocations.allocation_time(claim),
            )
            self._check_same(prepared, self._state.remembered(uid))
            for entry in entries:
                self._check_free(prepared, entry, devices[entry.name])
            # Behind every wait, and before the first change.
            _check_waits(prepared, given_up)
            self._apply(prepared, devices)
        klog.info(klog.STATE, "Prepared claim", claim=f"{namespace}/{name}", uid=uid, devices=list(devices))
        return results

    def unprepare(self, namespace: str, name: str, uid: str, given_up: Callable[[], bool] = _waits) -> None:
        """Undo ``prepare``; a claim that is not prepared is fine. Raises PrepareError; repeat it then.

        Nothing is done for a caller that has gone, as ``given_up`` says: while
        this call waited, the claim may have been prepared for another pod.
        """
        with self._locked():
            claim = self._state.remembered(uid)
            _check_waits(claim or f"{namespace}/{name} (uid {uid})", given_up)
            if claim is None:
                klog.info(klog.OPERATION, "Claim is not prepared", claim=f"{namespace}/{name}", uid=uid)
                return
            self._forget(claim)
        names = [device.name for device in claim.devices]
        klog.info(klog.STATE, "Unprepared claim", claim=f"{namespace}/{name}", uid=uid, devices=names)

    def release_left(self, uid: str) -> bool:
        """Undo ``prepare`` of a claim that no pod on this node may use any more; False when one may.

        The API server is asked inside of the lock: no pod can get the claim
        prepared between its answer and the release. Raises ApiError, PrepareError.
        """
        with self._locked():
            claim = self._state.remembered(uid)
            if claim is None:
                return False
            why = allocations.why_left(self._read(claim.namespace, claim.name), claim, self._node)
            if not why:
                return False
            if self._state.get(uid) is None:
                klog.info(klog.STATE, "Claim of an earlier boot is gone", claim=claim, why=why)
            else:
                klog.warning("Claim is gone, its devices are released", claim=claim, why=why, since=claim.since)
            self._forget(claim)
            return True

    def _forget(self, claim: PreparedClaim) -> None:
        try:
            if self._state.get(claim.uid) is not None:  # not only remembered from an earlier boot
                self._release(claim, claim.devices)
            self._state.forget(claim.uid)
        except OSError as error:
            raise PrepareError(f"claim {claim} cannot be released: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._state.locked())
            except OSError as error:
                raise PrepareError(f"the driver's state cannot be used: {error}") from error
            yield

    def _read(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A claim of the API server; None when it is not there. Raises ApiError."""
        try:
            return self._api.get(claim_path(namespace, name))
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return None

    def _allocated(self, namespace: str, name: str, uid: str) -> dict[str, Any]:
        """The claim, if it is the one of ``uid`` and allocated."""
        try:
            claim = self._api.get(claim_path(namespace, name))
        except ApiError as error:
            raise PrepareError(f"claim {namespace}/{name} cannot be read: {error}") from error
        found = claim["metadata"]["uid"]
        if found != uid:
            raise PrepareError(f"claim {namespace}/{name} was replaced: expected uid {uid}, found {found}")
        if not claim.get("status", {}).get("allocation"):
            raise PrepareError(f"claim {namespace}/{name} (uid {uid}) is not allocated")
        return claim

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

    def _check_same(self, claim: PreparedClaim, before: PreparedClaim | None) -> None:
        """Refuse another device under a name that the claim was given before."""
        if before is None or (before.allocated and claim.allocated and before.allocated != claim.allocated):
            return  # for another allocation, which may have meant another device
        for entry in claim.devices:
            recorded = before.device(entry.name)
            if recorded and recorded.identity not in (None, entry.identity):
                raise PrepareError(
                    f"claim {claim} was given another device under the name {entry.name} than is there now: "
                    f"recorded {recorded.identity}, found {entry.identity} on node {self._node}; plug the recorded "
                    "device in again and reboot the node, or delete the claim's pods so that it is allocated again"
                )

    def _check_free(self, claim: PreparedClaim, entry: PreparedDevice, device: Device) -> None:
        if entry.admin:
            return
        for other, used in self._state.holders(device, but=claim.uid):
            if not used.admin:
                raise _HeldError(entry.name, claim, other)
        before = self._state.get(claim.uid)
        recorded = before.device(entry.name) if before else None
        ours = recorded is not None and not recorded.admin
        if device.status != FREE and not (ours and device.status == ALLOCATED):
            raise PrepareError(
                f"device {entry.name} for claim {claim}: expected status {FREE}, found {device.status}, "
                f"and no claim prepared here has it; look at {discovery.CLASS_PATH}/{entry.name}/status on {self._node}"
            )
        if reason := overlapping(self._state.claims(), claim, entry):
            raise PrepareError(reason)

    def _explain(self, held: _HeldError) -> str:
        """Which claim has a device, and what is known of it."""
        holder = held.holder
        text = f"device {held.device} is still prepared for claim {holder}"
        text += f" since {holder.since}" if holder.since else ""
        text += f", claim {held.claim} cannot have it; "
        try:
            found = self._read(holder.namespace, holder.name)
        except ApiError as error:
            return f"{text}who uses {holder.namespace}/{holder.name} is not known: {error}"
        if why := allocations.why_left(found, holder, self._node):
            self.on_left()
            return (
                f"{text}of {holder.namespace}/{holder.name}: {why}; the driver releases it when the kubelet of "
                f"{self._node} had time to do so and did not; the kubelet tries this pod again by itself"
            )
        return (
            f"{text}{holder.namespace}/{holder.name} is reserved for {', '.join(allocations.users(found or {}))}, "
            f"which must end first: kubectl --namespace {holder.namespace} get pods --output wide"
        )

    def _apply(self, claim: PreparedClaim, devices: dict[str, Device]) -> None:
        """Record the claim and bring its devices about, or leave all as it was."""
        before = self._state.get(claim.uid)
        undo: list[Callable[[], object]] = []
        try:
            if before is not None:  # allocated again, and not unprepared in between
                kept = {(entry.name, entry.admin) for entry in claim.devices}
                self._release(before, [entry for entry in before.devices if (entry.name, entry.admin) not in kept])
            self._state.put(claim)
            if before is None:
                undo.append(lambda: self._state.withdraw(claim.uid))
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
            if entry.admin or not all(used.admin for _, used in others):
                continue
            if self._is_there(entry):
                self._set_status(entry.name, FREE)

    def _is_there(self, entry: PreparedDevice) -> bool:
        """Whether the name of ``entry`` is still that of its device; unless another one is found, it is taken so."""
        try:
            found = identity.read(self._sysfs, entry.name)
        except OSError:  # gone, or it does not answer: who writes its register is told
            return True
        if entry.identity in (None, found):
            return True
        # `Reconciler.repair` frees the recorded device where it is now.
        klog.warning("Register of another device left alone", device=entry.name, recorded=entry.identity, found=found)
        return False

    def _set_status(self, name: str, status: int) -> None:
        try:
            discovery.set_status(self._sysfs, name, status)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            klog.warning("Device is gone, its status is not written", device=name, status=status)
            return
        klog.info(klog.OPERATION, "Set status", device=name, status=status)


def _check_waits(claim: object, given_up: Callable[[], bool]) -> None:
    if given_up():
        raise GivenUpError(f"the call for claim {claim} was given up by its caller; nothing was changed")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
