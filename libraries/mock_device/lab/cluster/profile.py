"""Cluster profiles (``variables/<profile>.yaml``): settings of a cluster that do not depend on its topology."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mock_device.lab.base import schema
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import PROFILE_SCHEMA, profile_path
from mock_device.lab.cluster.loader_settings import KmmSettings, LoaderKind, kmm_settings
from mock_device.lab.guest.accelerator import accelerator

_SCHEMA: dict[str, Any] = json.loads(PROFILE_SCHEMA.read_text())
"""The schema that editors use as well."""


@dataclass(frozen=True)
class Profile:
    """A cluster profile."""

    path: Path
    kind: str
    accelerator: str
    """QEMU's accelerator, ``kvm`` or ``tcg``."""
    feature_gates: Mapping[str, bool]
    """Feature gates of all control plane components and kubelets."""
    default_runtime: str
    """OCI runtime of containers whose pods name no RuntimeClass."""
    module_loader: LoaderKind = LoaderKind.POD
    """What brings the kernel module to the nodes."""
    kmm: KmmSettings = field(default_factory=KmmSettings)
    """Where KMM's files are, for LoaderKind.KMM."""
    internet: bool = False
    """Whether guests reach the outside."""


def load(name: str) -> Profile:
    """Load the profile ``name``: a name in ``variables``, or a path. Raises StepError with file and reason."""
    path = profile_path(name)
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error
    if wrong := schema.complaint(_SCHEMA, fields):
        raise StepError(f"{path}: {wrong}")
    wanted = fields.get("accelerator", "auto")
    return Profile(
        path=path,
        kind=fields["kind"],
        accelerator=accelerator() if wanted == "auto" else wanted,
        feature_gates=fields.get("feature-gates") or {},
        default_runtime=fields.get("default-runtime", _SCHEMA["properties"]["default-runtime"]["default"]),
        module_loader=LoaderKind(fields.get("module-loader", LoaderKind.POD.value)),
        kmm=kmm_settings(fields.get("kmm") or {}),
        internet=fields.get("internet", False),
    )


def flag(gates: Mapping[str, bool]) -> str:
    """Format ``gates`` as the value of ``--feature-gates``."""
    return ",".join(f"{name}={str(value).lower()}" for name, value in sorted(gates.items()))
