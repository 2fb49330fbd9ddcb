"""Checkpoint: a small file that records the prepared claims of this node.

A claim is recorded before its devices are touched and forgotten after they are
released, so everything that the driver did belongs to a recorded claim. During an
update two agents use the file, one at a time.

A reboot ends preparation, but a claim keeps its devices: the record remembers their
identities, because their names may refer to other devices afterwards.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_accel_dra import klog, shares
from mock_accel_dra.configuration import DEFAULTS, Configuration, decode
from mock_accel_dra.discovery import Device
from mock_accel_dra.files import remove_half_written, write_atomically
from mock_accel_dra.identity import Identity, of
from mock_accel_dra.shares import Share

VERSION, WITH_SHARES = 2, 3
_READABLE = (1, VERSION, WITH_SHARES)
"""Version 1 had no boot id. Version 3 is written while a claim has a share of a device: an older driver would take its
other claims for a second use of the device, and remove the CDI files of shares.

Version 2 later got optional fields that its first drivers ignore: identities and configuration of devices, times,
``earlier``. Increase
the number only if an older driver would do something wrong: it treats a higher number as a lost record, while a newer
driver runs beside it during an update.
"""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCK_SECONDS = 30.0
"""Less than the kubelet's time limit for a call, 45 s."""
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class PreparedDevice:
    """A device of a prepared claim."""

    name: str
    """Name in sysfs."""
    admin: bool = False
    """Allocated by adminAccess: other claims may have it, too, and the driver does not write its status."""
    identity: Identity | None = None
    """None if an older driver recorded it."""
    configuration: Configuration = DEFAULTS
    """Empty for adminAccess, and if an older driver recorded it."""
    shares: tuple[Share, ...] = ()
    """Shares of the device that the claim has; empty if the device cannot be shared."""

    @property
    def cdi_names(self) -> list[str]:
        """Names of its CDI devices."""
        return [shares.cdi_name(self.name, share.id) for share in self.shares] or [self.name]

    def is_device(self, device: Device) -> bool:
        """Whether ``device`` is this one, under whatever name."""
        return self.name == device.name if self.identity is None else self.identity == of(device)


@dataclass(frozen=True)
class PreparedClaim:
    """A claim with devices on this node."""

    uid: str
    namespace: str
    name: str
    devices: tuple[PreparedDevice, ...]
    since: str = ""
    """When it was first recorded, RFC 3339; empty if an older driver recorded it."""
    allocated: str = ""
    """``allocationTimestamp`` of the allocation that it was prepared for; empty if unknown."""

    def device(self, name: str) -> PreparedDevice | None:
        """The device recorded under ``name``."""
        return next((device for device in self.devices if device.name == name), None)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} (uid {self.uid})"


class LockedError(OSError):
    """Another process holds the lock."""


class State:
    """The prepared claims, in memory and in ``path``; safe for threads and processes that use ``locked``."""

    def __init__(self, path: Path, boot_id: str = "") -> None:
        self._path = path
        self._boot_id = boot_id
        self._claims: dict[str, PreparedClaim] = {}
        self._earlier: dict[str, PreparedClaim] = {}
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()
        self.lost = False
        """The file was unreadable: there may be prepared claims that are not recorded.

        The flag is saved in the file, so that every agent on the node sees it until one has rebuilt the record.
        """

    @classmethod
    def load(cls, path: Path, boot_id: str = "") -> State:
        """Read ``path``. Claims of an earlier boot do not count as prepared, because the reboot reset their devices.

        A file with unusable content (corrupted, truncated, empty, of a newer driver)
        is kept as ``.bad``, logged, and replaced by one with the flag ``lost``.
        Raises OSError if the file cannot be read or replaced.
        """
        state = cls(path, boot_id)
        state._read()
        return state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the exclusive lock of the file, with its content re-read if it changed. Do not nest.

        Raises LockedError after 30 s, OSError if the file cannot be read.
        """
        with self._lock, _file_lock(self._path.with_name(f"{self._path.name}.lock")):
            if self._stamp() != self._seen:
                self._read()
            yield

    def get(self, uid: str) -> PreparedClaim | None:
        """The prepared claim with this uid."""
        return self._claims.get(uid)

    def claims(self) -> list[PreparedClaim]:
        """All prepared claims."""
        return list(self._claims.values())

    def earlier(self) -> list[PreparedClaim]:
        """Claims that were prepared in an earlier boot and not since."""
        return [claim for uid, claim in self._earlier.items() if uid not in self._claims]

    def remembered(self, uid: str) -> PreparedClaim | None:
        """The last record of the claim with this uid, from this boot or an earlier one."""
        return self._claims.get(uid) or self._earlier.get(uid)

    def prepared(self) -> set[str]:
        """Names of the devices of all prepared claims."""
        return {device.name for claim in self.claims() for device in claim.devices}

    def users(self, device: str, *, but: str) -> list[tuple[PreparedClaim, PreparedDevice]]:
        """Claims that have a device named ``device``, except the claim with uid ``but``."""
        return [
            (claim, entry)
            for claim in self.claims()
            if claim.uid != but
            for entry in claim.devices
            if entry.name == device
        ]

    def holders(self, device: Device, *, but: str) -> list[tuple[PreparedClaim, PreparedDevice]]:
        """Claims that have ``device``, or another device under its name, except the claim with uid ``but``."""
        return [
            (claim, entry)
            for claim in self.claims()
            if claim.uid != but
            for entry in claim.devices
            if entry.name == device.name or entry.is_device(device)
        ]

    def configuration(self, device: str, *, but: str = "") -> Configuration:
        """Configuration of the device named ``device`` by the claim that has all of it, unless its uid is ``but``."""
        holding = (entry for _, entry in self.users(device, but=but) if not entry.admin and not entry.shares)
        return next((entry.configuration for entry in holding), DEFAULTS)

    def shares(self, device: str, *, but: str) -> list[Share]:
        """Shares of the device named ``device`` that claims have, except the claim with uid ``but``."""
        return [share for _, entry in self.users(device, but=but) for share in entry.shares]

    def put(self, claim: PreparedClaim) -> None:
        """Record ``claim``. Raises OSError and then records nothing."""
        if self._claims.get(claim.uid) != claim:
            self._save({**self._claims, claim.uid: claim}, self._earlier, self.lost)

    def withdraw(self, uid: str) -> None:
        """Undo ``put`` after a failed prepare; the record of an earlier boot stays. Raises OSError."""
        if uid in self._claims:
            self._save(_without(self._claims, uid), self._earlier, self.lost)

    def forget(self, uid: str) -> None:
        """Remove all records of the claim with this uid. Raises OSError and then changes nothing."""
        if self.remembered(uid):
            self._save(_without(self._claims, uid), _without(self._earlier, uid), self.lost)

    def rebuilt(self) -> None:
        """Clear ``lost``: the record is complete again. Raises OSError and then changes nothing."""
        self._save(self._claims, self._earlier, lost=False)

    def remove_half_written(self) -> None:
        """Remove temporary files of a driver that was killed while writing. Raises OSError."""
        remove_half_written(self._path.parent, self._path.name)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        was_there = self._seen is not None
        self._seen = self._stamp()
        try:
            boot_id, claims, earlier, lost = _parse(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if was_there:
                klog.error("State file was deleted while the driver runs; rebuilding it", file=self._path)
                self._save({}, {}, lost=True)
            else:
                self._claims, self._earlier = {}, {}
                self.lost = False
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self._path.with_name(f"{self._path.name}.bad")
            aside.unlink(missing_ok=True)
            aside.hardlink_to(self._path)
            self._save({}, {}, lost=True)
            klog.error("State file is not usable; rebuilding it", file=self._path, keptAs=aside, err=repr(error))
        else:
            if boot_id and self._boot_id and boot_id != self._boot_id:
                names = [str(claim) for claim in claims.values()]
                klog.info(klog.STATE, "Node has rebooted: prepared claims are forgotten", claims=names)
                claims, earlier, lost = {}, {**earlier, **claims}, False
            self.lost = lost
            self._claims, self._earlier = claims, earlier

    def _save(self, claims: dict[str, PreparedClaim], earlier: dict[str, PreparedClaim], lost: bool) -> None:
        content = {
            "version": WITH_SHARES if _any_share(claims) or _any_share(earlier) else VERSION,
            "bootID": self._boot_id,
            "lost": lost,
            "claims": {uid: _written(claim) for uid, claim in claims.items()},
            "earlier": {uid: _written(claim) for uid, claim in earlier.items()},
        }
        write_atomically(self._path, json.dumps(content, indent=1) + "\n", mode=0o600)
        self._claims, self._earlier = claims, earlier
        self.lost = lost
        self._seen = self._stamp()


def boot_id() -> str:
    """Unique id of the current boot of this node, random(4). Raises OSError."""
    return BOOT_ID.read_text(encoding="ascii").strip()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # Open the file for each use: flock(2) then also excludes other users in the same process.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"another driver on this node has held {path} for {_LOCK_SECONDS:.0f} s"
                    raise LockedError(message) from None
                time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _parse(text: str) -> tuple[str, dict[str, PreparedClaim], dict[str, PreparedClaim], bool]:
    """Boot id (empty in version 1), claims, claims of earlier boots, and the flag ``lost``."""
    content: dict[str, Any] = json.loads(text)
    if content["version"] not in _READABLE:
        raise ValueError(f"expected version {' or '.join(map(str, _READABLE))}, found {content['version']!r}")
    claims = {uid: _read_claim(uid, claim) for uid, claim in content["claims"].items()}
    earlier = {uid: _read_claim(uid, claim) for uid, claim in content.get("earlier", {}).items()}
    return content.get("bootID", ""), claims, earlier, bool(content.get("lost", False))


def _read_claim(uid: str, claim: dict[str, Any]) -> PreparedClaim:
    return PreparedClaim(
        uid=uid,
        namespace=claim["namespace"],
        name=claim["name"],
        devices=tuple(
            PreparedDevice(
                name=device["name"],
                admin=bool(device["admin"]),
                identity=Identity(device["uuid"], device["pciAddress"]) if "uuid" in device else None,
                configuration=decode(device["configuration"]) if "configuration" in device else DEFAULTS,
                shares=tuple(map(shares.of_record, device.get("shares", ()))),
            )
            for device in claim["devices"]
        ),
        since=claim.get("since", ""),
        allocated=claim.get("allocated", ""),
    )


def _written(claim: PreparedClaim) -> dict[str, Any]:
    devices = []
    for device in claim.devices:
        entry: dict[str, Any] = {"name": device.name, "admin": device.admin}
        if device.identity is not None:
            entry |= {"uuid": device.identity.uuid, "pciAddress": device.identity.pci_address}
        if device.configuration:
            entry["configuration"] = device.configuration.parameters()
        if device.shares:
            entry["shares"] = [share.record() for share in device.shares]
        devices.append(entry)
    return {
        "namespace": claim.namespace,
        "name": claim.name,
        "devices": devices,
        "since": claim.since,
        "allocated": claim.allocated,
    }


def _any_share(claims: dict[str, PreparedClaim]) -> bool:
    return any(device.shares for claim in claims.values() for device in claim.devices)


def _without(claims: dict[str, PreparedClaim], uid: str) -> dict[str, PreparedClaim]:
    return {key: claim for key, claim in claims.items() if key != uid}
