"""Prepare and unprepare claims for the kubelet.

Both can be repeated and interrupted at any point: a claim is recorded before its
devices are touched, and forgotten after they are released. A call that its caller
has given up changes nothing, because the caller may want something else by now.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import allocations, device_configuration, discovery, klog
from mock_accel_dra.api import ApiError, claim_path, timestamp
from mock_accel_dra.claimed_devices import ClaimedDevices
from mock_accel_dra.configuration import DEFAULTS
from mock_accel_dra.discovery import ALLOCATED, FREE, Device, DeviceError
from mock_accel_dra.exclusion import incompatible, overlapping
from mock_accel_dra.features import Feature
from mock_accel_dra.metadata_files import MetadataFiles
from mock_accel_dra.names import is_pool_of
from mock_accel_dra.requested import Requested, RequestError, Result
from mock_accel_dra.state import PreparedClaim, PreparedDevice, State


class PrepareError(Exception):
    """A claim cannot be prepared or unprepared; the message is for the kubelet and the user."""


class GivenUpError(PrepareError):
    """The caller no longer waits for the answer; nothing was changed."""


class _HeldError(PrepareError):
    """Another claim has the device."""

    def __init__(self, device: str, claim: PreparedClaim, holder: PreparedClaim) -> None:
        super().__init__(f"device {device} is held")
        self.device = device
        self.claim = claim
        self.holder = holder


class ClaimReader(Protocol):
    """The part of the Kubernetes API that is used here."""

    def get(self, path: str) -> dict[str, Any]:
        """Read an object; raises ApiError."""


def _waits() -> bool:
    """``given_up`` of a caller that waits as long as it takes."""
    return False


class Preparer:
    """Prepares and unprepares claims on one node; thread-safe."""

    def __init__(
        self,
        *,
        api: ClaimReader,
        node: str,
        sysfs: Path,
        cdi_folder: Path,
        state: State,
        features: AbstractSet[Feature] = frozenset(),
        metadata: MetadataFiles | None = None,
    ) -> None:
        """``metadata`` are the files for containers; None for none."""
        self._api = api
        self._node = node
        self._sysfs = sysfs
        self._state = state
        self._features = features
        self._metadata = metadata
        self._devices = ClaimedDevices(sysfs=sysfs, cdi_folder=cdi_folder, state=state)
        self.on_stale: Callable[[], object] = lambda: None
        """Called when a stale claim holds a requested device."""

    def prepare(self, namespace: str, name: str, uid: str, given_up: Callable[[], bool] = _waits) -> list[Result]:
        """Set the status of the claim's devices, write their CDI files, and return the kubelet's results.

        ``given_up`` returns whether the caller is gone. Raises PrepareError after it
        undid the changes of this call.
        """
        claim = self._allocated(namespace, name, uid)
        try:
            return self._prepare(namespace, name, claim, given_up)
        except _HeldError as held:
            # Outside the lock, so that no other call waits for the API server.
            raise PrepareError(self._explain(held)) from None

    def _prepare(self, namespace: str, name: str, claim: dict[str, Any], given_up: Callable[[], bool]) -> list[Result]:
        uid = claim["metadata"]["uid"]
        with self._locked():
            try:
                requested = Requested(f"{namespace}/{name} (uid {uid})", claim, self._find)
                devices = requested.devices
                before = self._state.get(uid)
                entries = requested.entries(lambda device: self._state.shares(device, but=uid), before)
            except RequestError as error:
                raise PrepareError(str(error)) from error
            prepared = PreparedClaim(
                uid=uid,
                namespace=namespace,
                name=name,
                devices=entries,
                since=(before.since if before else "") or timestamp(),
                allocated=allocations.allocation_time(claim),
            )
            self._check_same(prepared, self._state.remembered(uid))
            for entry in entries:
                self._check_free(prepared, entry, devices[entry.name])
                if reason := device_configuration.complaint(devices[entry.name], entry.configuration):
                    raise PrepareError(f"the configuration of claim {prepared} cannot be applied: {reason}")
            # After every wait and before the first change.
            _check_waits(prepared, given_up)
            results = self._with_metadata(claim, requested)
            try:
                self._apply(prepared, devices)
            except PrepareError:
                if before is None:
                    self._remove_metadata(uid)
                raise
        klog.info(klog.STATE, "Prepared claim", claim=f"{namespace}/{name}", uid=uid, devices=list(devices))
        return results

    def unprepare(self, namespace: str, name: str, uid: str, given_up: Callable[[], bool] = _waits) -> None:
        """Undo ``prepare``; succeeds if the claim is not prepared. Raises PrepareError; then call again.

        Changes nothing if ``given_up`` returns True: while this call waited, the
        claim may have been prepared for another pod.
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

    def release_stale(self, uid: str) -> bool:
        """Undo ``prepare`` of a claim if it is stale; False if a pod may still use it.

        Reads the claim inside the lock, so that no pod can get it prepared between
        the API server's answer and the release. Raises ApiError, PrepareError.
        """
        with self._locked():
            claim = self._state.remembered(uid)
            if claim is None:
                return False
            why = allocations.why_stale(self._read(claim.namespace, claim.name), claim, self._node)
            if not why:
                return False
            if self._state.get(uid) is None:
                klog.info(klog.STATE, "Forgetting a stale claim of an earlier boot", claim=claim, why=why)
            else:
                klog.warning("Releasing the devices of a stale claim", claim=claim, why=why, since=claim.since)
            self._forget(claim)
            return True

    def _forget(self, claim: PreparedClaim) -> None:
        try:
            if self._state.get(claim.uid) is not None:  # else only remembered from an earlier boot
                self._devices.release(claim, claim.devices)
            self._remove_metadata(claim.uid)
            self._state.forget(claim.uid)
        except OSError as error:
            raise PrepareError(f"claim {claim} cannot be released: {error}") from error

    def _with_metadata(self, claim: dict[str, Any], requested: Requested) -> list[Result]:
        """Write the files with the attributes of the claim's devices; the results with these files."""
        if self._metadata is None:
            return requested.results
        try:
            ids = self._metadata.write(claim, requested.devices)
        except OSError as error:
            raise PrepareError(f"the metadata of the claim's devices cannot be written: {error}") from error
        # The first device of each request brings the file.
        more = [(ids.pop(item.request),) if item.request in ids else () for item in requested.results]
        return [replace(item, more_ids=names) for item, names in zip(requested.results, more, strict=True)]

    def _remove_metadata(self, uid: str) -> None:
        if self._metadata is not None:
            self._metadata.remove(uid)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._state.locked())
            except OSError as error:
                raise PrepareError(f"the driver's state cannot be used: {error}") from error
            yield

    def _read(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The claim from the API server; None if it does not exist. Raises ApiError."""
        try:
            return self._api.get(claim_path(namespace, name))
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return None

    def _allocated(self, namespace: str, name: str, uid: str) -> dict[str, Any]:
        """The claim, if its uid is ``uid`` and it is allocated. Raises PrepareError."""
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
            names = os.listdir(folder)  # noqa: PTH208 - only names are needed
        except FileNotFoundError:
            names = []
        name = next((name for name in names if discovery.published_name(name) == published), None)
        if name is None or not is_pool_of(pool, self._node):
            there = ", ".join(sorted(names)) or "none (is the kernel module loaded?)"
            raise PrepareError(f"device {published} of pool {pool} is not on node {self._node}; devices here: {there}")
        return self._read_device(name)

    def _read_device(self, name: str) -> Device:
        try:
            return discovery.read_device(self._sysfs, name)
        except (OSError, DeviceError) as error:
            raise PrepareError(f"device {name} cannot be read: {error}; look at the node's dmesg") from error

    def _check_same(self, claim: PreparedClaim, before: PreparedClaim | None) -> None:
        """Refuse a device that is not the one that the claim had under the same name."""
        if before is None or (before.allocated and claim.allocated and before.allocated != claim.allocated):
            return  # prepared for another allocation, which may have meant another device
        for entry in claim.devices:
            recorded = before.device(entry.name)
            if recorded and recorded.identity not in (None, entry.identity):
                raise PrepareError(
                    f"claim {claim}: node {self._node} has another device under the name {entry.name}: "
                    f"recorded {recorded.identity}, found {entry.identity}; plug the recorded device in again and "
                    "reboot the node, or delete the claim's pods so that it is allocated again"
                )

    def _check_free(self, claim: PreparedClaim, entry: PreparedDevice, device: Device) -> None:
        if entry.admin:
            return
        is_shared = False
        for other, used in self._state.holders(device, but=claim.uid):
            if used.admin:
                continue
            # Whether there is room for both was checked when the shares got their places.
            if not (entry.shares and used.shares and used.is_device(device)):
                raise _HeldError(entry.name, claim, other)
            is_shared = True
        before = self._state.get(claim.uid)
        recorded = before.device(entry.name) if before else None
        ours = recorded is not None and not recorded.admin
        if device.status != FREE and not ((ours or is_shared) and device.status == ALLOCATED):
            raise PrepareError(
                f"device {entry.name} for claim {claim}: expected status {FREE}, found {device.status}, "
                f"and no claim prepared here has it; look at {discovery.CLASS_PATH}/{entry.name}/status on {self._node}"
            )
        if reason := overlapping(self._state.claims(), claim, entry):
            raise PrepareError(reason)
        if Feature.DEVICE_COMPATIBILITY_GROUPS in self._features and device.is_vf:
            reason = incompatible(self._state.claims(), claim, device, self._read_device)
            if reason:
                raise PrepareError(reason)

    def _explain(self, held: _HeldError) -> str:
        """Name the claim that holds the device, and what must happen before the device is free."""
        holder = held.holder
        text = f"device {held.device} is still prepared for claim {holder}"
        text += f" since {holder.since}" if holder.since else ""
        text += f"; claim {held.claim} cannot have it; "
        try:
            found = self._read(holder.namespace, holder.name)
        except ApiError as error:
            return f"{text}the users of {holder.namespace}/{holder.name} are unknown: {error}"
        if why := allocations.why_stale(found, holder, self._node):
            self.on_stale()
            return (
                f"{text}{holder.namespace}/{holder.name} is stale: {why}; the driver releases it unless the kubelet of "
                f"{self._node} does so first; then the kubelet retries this pod"
            )
        return (
            f"{text}{holder.namespace}/{holder.name} is reserved for {', '.join(allocations.users(found or {}))}, "
            f"which must end first: kubectl --namespace {holder.namespace} get pods --output wide"
        )

    def _apply(self, claim: PreparedClaim, devices: dict[str, Device]) -> None:
        """Record the claim and set up its devices, or leave everything unchanged. Raises PrepareError."""
        before = self._state.get(claim.uid)
        undo: list[Callable[[], object]] = []
        try:
            if before is not None:  # allocated again, and not unprepared in between
                released = [entry for entry in before.devices if not _keeps(claim, entry)]
                self._devices.release(before, released)
                again = {entry.name for entry in released} & devices.keys()
                devices |= {name: discovery.read_device(self._sysfs, name) for name in again}
            self._state.put(claim)
            if before is None:
                undo.append(lambda: self._state.withdraw(claim.uid))
            for entry in claim.devices:
                self._devices.apply(claim, entry, devices[entry.name], undo)
        except (OSError, DeviceError) as error:
            for step in reversed(undo):
                try:
                    step()
                except OSError as failure:
                    # The claim stays recorded, so unprepare will release its devices.
                    klog.error("Roll-back failed", claim=claim, err=failure)
                    break
            raise PrepareError(f"claim {claim} cannot be prepared: {error}") from error


def _keeps(claim: PreparedClaim, before: PreparedDevice) -> bool:
    """Whether ``claim`` keeps a device as it was prepared ``before``; else it must be released first.

    To free a device is the only way to undo its configuration.
    """
    entry = claim.device(before.name)
    if entry is None or entry.admin != before.admin or entry.shares != before.shares:
        return False
    return before.configuration in (DEFAULTS, entry.configuration)


def _check_waits(claim: object, given_up: Callable[[], bool]) -> None:
    if given_up():
        raise GivenUpError(f"the call for claim {claim} was given up by its caller; nothing was changed")
