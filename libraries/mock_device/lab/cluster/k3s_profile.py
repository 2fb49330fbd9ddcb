"""The key ``k3s`` of a cluster profile: which binary, and settings of ``k3s server`` and ``k3s agent``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_device.lab.base.spec import K3sSpec
from mock_device.lab.build.k3s_image import find_binary

STAND_IN = "stand-in"
"""Value of ``binary`` for the project's own program, which has k3s's flags and paths but is not k3s."""


@dataclass(frozen=True)
class K3s:
    """What the nodes of a cluster with the control plane on its first node run."""

    binary: str
    """``stand-in``, a path, or empty: the environment variable ``K3S_BINARY``, else ``version`` is downloaded."""
    version: str
    sha256: str
    """Checksum of the binary, as its release publishes it."""
    spec: K3sSpec

    @property
    def is_stand_in(self) -> bool:
        """Whether the nodes run the project's own program, which is of one of the lab's versions of Kubernetes."""
        return self.binary == STAND_IN

    def find_binary(self) -> Path | None:
        """The user's binary of k3s; None: the nodes run the stand-in. Raises StepError."""
        return None if self.is_stand_in else find_binary(self.binary, self.version, self.sha256)


def parse(settings: Mapping[str, Any]) -> K3s:
    """Read ``settings`` that the profile's schema has accepted."""
    spec = K3sSpec(server=_flags(settings.get("server-flags") or {}), nodes=_flags(settings.get("node-flags") or {}))
    return K3s(settings.get("binary", ""), settings.get("version", ""), settings.get("sha256", "").lower(), spec)


def _flags(flags: Mapping[str, Any]) -> dict[str, list[str]]:
    """Flags by name, each with its values as text."""
    return {
        name: [_text(item) for item in (value if isinstance(value, list) else [value])] for name, value in flags.items()
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
