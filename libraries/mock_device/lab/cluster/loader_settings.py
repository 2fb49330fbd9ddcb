"""Which module loader a cluster has, and where the user's files for it are: part of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
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
    """Key ``kmm`` of a profile: files, folders and patterns. Environment variables take precedence."""

    manifests: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    version: str = ""
    """Without ``manifests``: the version that is downloaded with its images, such as ``v2.4.1``."""
    cert: CertKind | None = None
    """None: cert-manager if its files are given, else the lab."""
    cert_manager_manifests: tuple[str, ...] = ()
    cert_manager_images: tuple[str, ...] = ()

    def relative_to(self, folder: Path) -> KmmSettings:
        """These settings, with paths and patterns relative to ``folder``; ``~`` is the user's home."""

        def absolute(patterns: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(str((folder / Path(pattern).expanduser()).absolute()) for pattern in patterns)

        return replace(
            self,
            manifests=absolute(self.manifests),
            images=absolute(self.images),
            cert_manager_manifests=absolute(self.cert_manager_manifests),
            cert_manager_images=absolute(self.cert_manager_images),
        )


def kmm_settings(fields: Mapping[str, Any]) -> KmmSettings:
    """Settings from the value of the key ``kmm``, which the schema of profiles has accepted."""
    cert = fields.get("cert")
    return KmmSettings(
        manifests=_patterns(fields.get("manifests")),
        images=_patterns(fields.get("images")),
        version=fields.get("version") or "",
        cert=CertKind(cert) if cert else None,
        cert_manager_manifests=_patterns(fields.get("cert-manager-manifests")),
        cert_manager_images=_patterns(fields.get("cert-manager-images")),
    )


def _patterns(value: str | list[str] | None) -> tuple[str, ...]:
    """A pattern, or a list of them."""
    return (value,) if isinstance(value, str) else tuple(value or ())
