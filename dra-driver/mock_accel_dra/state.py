"""Which claims are prepared on this node: a small file that outlives the driver's process.

A claim is recorded before its devices are touched and forgotten after they are
released, so whatever the driver did belongs to a claim of this file. While one
driver replaces another, both work on it, one at a time.

A reboot ends what was prepared, but a claim keeps its devices: which ones these
were is remembered, because their names may mean others afterwards.
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

from mock_accel_dra import klog
from mock_accel_dra.discovery import Device
from mock_accel_dra.files import remove_half_written, write_atomically
from mock_accel_dra.identity import Identity, of

VERSION = 2
_READABLE = (1, VERSION)
"""Version 1 had no boot id.

Version 2 got more fields since, each of which may be missing: identities of devices, times, ``earlier``. Its first
drivers ignore them. A new number is for what an older driver would do wrong: one that meets a higher number takes the
record for lost, while a newer one is at work beside it in an update.
"""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCK_SECONDS = 30.0
"""Less than the 45 s that the kubelet waits for an answer."""
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class PreparedDevice:
    """A device of a prepared claim."""

    name: str
    """Name in sysfs."""
    admin: bool = False
    """Given by adminAccess: may be somebody else's at the same time, and its status is not ours."""
    identity: Identity | None = None
    """None when an older driver recorded it."""

    def is_device(self, device: Device) -> bool:
        """Whether ``device`` is this one, whatever its name is now."""
        return self.name == device.name if self.identity is None else self.identity == of(device)


@dataclass(frozen=True)
class PreparedClaim:
    """A claim that has devices here."""

    uid: str
    namespace: str
    name: str
    devices: tuple[PreparedDevice, ...]
    since: str = ""
    """When it was recorded first, RFC 3339; empty when an older driver did it."""
    allocated: str = ""
    """``allocationTimestamp`` of the allocation that it was prepared for; empty when not known."""

    def device(self, name: str) -> PreparedDevice | None:
        """The device recorded under ``name``."""
        return next((device for device in self.devices if device.name == name), None)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} (uid {self.uid})"


class LockedError(OSError):
    """Another process holds the lock."""


class State:
    """The prepared claims, in memory and in ``path``; safe for threads and processes inside ``locked``."""

    def __init__(self, path: Path, boot_id: str = "") -> None:
        self._path = path
        self._boot_id = boot_id
        self._claims: dict[str, PreparedClaim] = {}
        self._earlier: dict[str, PreparedClaim] = {}
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()
        self.lost = False
        """The file could not be understood: there may be prepared claims that are not recorded.

        It is in the file, too, so that every agent on the node knows it until one of them has rebuilt the record.
        """

    @classmethod
    def load(cls, path: Path, boot_id: str = "") -> State:
        """Read ``path``. Claims of another boot are not prepared: the kernel's part of them is gone.

        A file that cannot be understood (corrupted, truncated, empty, of a newer
        driver) is kept as ``.bad``, with a log line, and replaced by one that
        says ``lost``. Raises OSError when the file cannot be read or replaced.
        """
        state = cls(path, boot_id)
        state._read()
        return state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the file, and up to date with it. Not to be nested.

        Raises LockedError after 30 s, OSError when the file cannot be read.
        """
        with self._lock, _file_lock(self._path.with_name(f"{self._path.name}.lock")):
            if self._stamp() != self._seen:
                self._read()
            yield

    def get(self, uid: str) -> PreparedClaim | None:
        """The prepared claim of this uid."""
        return self._claims.get(uid)

    def claims(self) -> list[PreparedClaim]:
        """All prepared claims."""
        return list(self._claims.values())

    def earlier(self) -> list[PreparedClaim]:
        """Claims that were prepared before the node was booted again, and not since."""
        return [claim for uid, claim in self._earlier.items() if uid not in self._claims]

    def remembered(self, uid: str) -> PreparedClaim | None:
        """The claim of this uid as it was prepared last, in this boot or an earlier one."""
        return self._claims.get(uid) or self._earlier.get(uid)

    def prepared(self) -> set[str]:
        """Names of the devices that claims have."""
        return {device.name for claim in self.claims() for device in claim.devices}

    def users(self, device: str, *, but: str) -> list[tuple[PreparedClaim, PreparedDevice]]:
        """Who has ``device``, other than the claim of uid ``but``."""
        return [
            (claim, entry)
            for claim in self.claims()
            if claim.uid != but
            for entry in claim.devices
            if entry.name == device
        ]

    def holders(self, device: Device, *, but: str) -> list[tuple[PreparedClaim, PreparedDevice]]:
        """Who has ``device``, or another one under its name, other than the claim of uid ``but``."""
        return [
            (claim, entry)
            for claim in self.claims()
            if claim.uid != but
            for entry in claim.devices
            if entry.name == device.name or entry.is_device(device)
        ]

    def put(self, claim: PreparedClaim) -> None:
        """Record ``claim``. Raises OSError; then nothing is recorded."""
        if self._claims.get(claim.uid) != claim:
            self._save({**self._claims, claim.uid: claim}, self._earlier, self.lost)

    def withdraw(self, uid: str) -> None:
        """Undo ``put`` of a claim that was not prepared; what it had in an earlier boot stays. Raises OSError."""
        if uid in self._claims:
            self._save(_without(self._claims, uid), self._earlier, self.lost)

    def forget(self, uid: str) -> None:
        """Record that the claim of this uid is not prepared, nor was. Raises OSError; then nothing has changed."""
        if self.remembered(uid):
            self._save(_without(self._claims, uid), _without(self._earlier, uid), self.lost)

    def rebuilt(self) -> None:
        """Record that no claim is missing from the record. Raises OSError; then one still may be."""
        self._save(self._claims, self._earlier, lost=False)

    def remove_half_written(self) -> None:
        """Remove what a driver left that was killed while it wrote. Raises OSError."""
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
            "version": VERSION,
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
    """What tells one boot of this node from another, random(4). Raises OSError."""
    return BOOT_ID.read_text(encoding="ascii").strip()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # A lock of its own for each use: flock(2) excludes those of one process from each other, too.
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
    """Boot id (empty in version 1), claims, those of earlier boots, and whether there may be more."""
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
        devices.append(entry)
    return {
        "namespace": claim.namespace,
        "name": claim.name,
        "devices": devices,
        "since": claim.since,
        "allocated": claim.allocated,
    }


def _without(claims: dict[str, PreparedClaim], uid: str) -> dict[str, PreparedClaim]:
    return {key: claim for key, claim in claims.items() if key != uid}
