"""Which module loader a cluster has, and where the user's files for it are: part of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class LoaderKind(Enum):
    """What brings the kernel module to the nodes; the value is what users write."""

    POD = "pod"
    """A DaemonSet of this project, whose pods load it."""
    KMM = "kmm"
    """The Kernel Module Management operator."""


class CertKind(Enum):
    """Who issues the certificate of KMM's webhook."""

    LAB = "lab"
    CERT_MANAGER = "cert-manager"


@dataclass(frozen=True)
class KmmSettings:
    """Key ``kmm`` of a profile. Files, folders and patterns; environment variables take precedence."""

    manifests: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    cert: CertKind | None = None
    """None: cert-manager if its files are given, else the lab."""
    cert_manager_manifests: tuple[str, ...] = ()
    cert_manager_images: tuple[str, ...] = ()


_LISTS = ("manifests", "images", "cert-manager-manifests", "cert-manager-images")


def parse_kmm(fields: Any) -> KmmSettings:
    """Settings from the value of the key ``kmm``. Raises ValueError with the reason."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"expected a mapping, found {fields!r}")
    if unknown := sorted(map(str, fields.keys() - {*_LISTS, "cert"})):
        raise ValueError(f"unknown keys {', '.join(unknown)}; expected {', '.join((*_LISTS, 'cert'))}")
    lists = {name: _patterns(name, fields.get(name)) for name in _LISTS}
    cert = fields.get("cert")
    kinds = [kind.value for kind in CertKind]
    if cert is not None and cert not in kinds:
        raise ValueError(f"expected cert {' or '.join(kinds)}, found {cert!r}")
    return KmmSettings(
        manifests=lists["manifests"],
        images=lists["images"],
        cert=CertKind(cert) if cert else None,
        cert_manager_manifests=lists["cert-manager-manifests"],
        cert_manager_images=lists["cert-manager-images"],
    )


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    """A pattern, or a list of them."""
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
        raise ValueError(f"{name}: expected a path or a list of paths, found {value!r}")
    return tuple(found)
