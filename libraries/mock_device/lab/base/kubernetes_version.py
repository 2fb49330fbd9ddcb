"""Minor versions of Kubernetes that the lab builds."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from mock_device.lab.base.errors import StepError


class KubernetesVersion(StrEnum):
    """A minor version, in ascending order. ``lab.build.gobuild`` knows which patch release it is."""

    V1_34 = "v1.34"
    V1_35 = "v1.35"
    V1_36 = "v1.36"
    V1_37 = "v1.37"

    @property
    def number(self) -> int:
        """Minor version as a number, such as 37."""
        return minor(self)

    @property
    def next(self) -> KubernetesVersion | None:
        """The version after this one, to which a cluster can be upgraded; None for the last one."""
        return next((version for version in KubernetesVersion if version.number == self.number + 1), None)

    @classmethod
    def of(cls, release: str) -> Self | None:
        """The version of ``release`` (``v1.36.3``, ``v1.36.3+k3s1``); None if the lab does not build it."""
        return next((version for version in cls if f"{release}.".startswith(f"{version}.")), None)


def minor(release: str) -> int:
    """Minor version of ``release``: 37 for ``v1.37``, ``v1.37.2`` and ``v1.37.2+k3s1``. Raises StepError."""
    parts = release.split(".")
    if len(parts) < 2 or parts[0] != "v1" or not parts[1].isdecimal():
        raise StepError(f"expected a version of Kubernetes such as v1.37, found {release!r}")
    return int(parts[1])
