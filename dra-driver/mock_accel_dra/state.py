"""Which claims are prepared on this node: a small file that outlives the driver's process.

A claim is recorded before its devices are touched and forgotten after they are
released, so whatever the driver did belongs to a claim of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra import klog
from mock_accel_dra.files import write_atomically

VERSION = 1


@dataclass(frozen=True)
class PreparedDevice:
    """A device of a prepared claim."""

    name: str
    """Name in sysfs."""
    admin: bool = False
    """Given by adminAccess: may be somebody else's at the same time, and its status is not ours."""


@dataclass(frozen=True)
class PreparedClaim:
    """A claim that has devices here."""

    uid: str
    namespace: str
    name: str
    devices: tuple[PreparedDevice, ...]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} (uid {self.uid})"


class State:
    """The prepared claims, in memory and in ``path``."""

    def __init__(self, path: Path, claims: Iterable[PreparedClaim] = ()) -> None:
        self._path = path
        self._claims = {claim.uid: claim for claim in claims}

    @classmethod
    def load(cls, path: Path) -> State:
        """Read ``path``. A file that cannot be understood is put aside as ``.bad``, with a log line.

        Raises OSError when the file cannot be read or put aside.
        """
        try:
            return cls(path, _parse(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls(path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_name(f"{path.name}.bad")
            path.rename(aside)
            klog.error("State file is not usable; going on without it", file=path, keptAs=aside, err=repr(error))
            return cls(path)

    def get(self, uid: str) -> PreparedClaim | None:
        """The prepared claim of this uid."""
        return self._claims.get(uid)

    def claims(self) -> list[PreparedClaim]:
        """All prepared claims."""
        return list(self._claims.values())

    def users(self, device: str, *, but: str) -> list[tuple[PreparedClaim, PreparedDevice]]:
        """Who has ``device``, other than the claim of uid ``but``."""
        return [
            (claim, entry)
            for claim in self._claims.values()
            if claim.uid != but
            for entry in claim.devices
            if entry.name == device
        ]

    def put(self, claim: PreparedClaim) -> None:
        """Record ``claim``. Raises OSError; then nothing is recorded."""
        if self._claims.get(claim.uid) != claim:
            self._save({**self._claims, claim.uid: claim})

    def forget(self, uid: str) -> None:
        """Record that the claim of this uid is not prepared. Raises OSError; then it still is."""
        if uid in self._claims:
            self._save({key: claim for key, claim in self._claims.items() if key != uid})

    def _save(self, claims: dict[str, PreparedClaim]) -> None:
        content = {
            "version": VERSION,
            "claims": {
                uid: {
                    "namespace": claim.namespace,
                    "name": claim.name,
                    "devices": [{"name": device.name, "admin": device.admin} for device in claim.devices],
                }
                for uid, claim in claims.items()
            },
        }
        write_atomically(self._path, json.dumps(content, indent=1) + "\n", mode=0o600)
        self._claims = claims


def _parse(text: str) -> list[PreparedClaim]:
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError(f"expected version {VERSION}, found {content['version']!r}")
    return [
        PreparedClaim(
            uid=uid,
            namespace=claim["namespace"],
            name=claim["name"],
            devices=tuple(PreparedDevice(device["name"], bool(device["admin"])) for device in claim["devices"]),
        )
        for uid, claim in content["claims"].items()
    ]
