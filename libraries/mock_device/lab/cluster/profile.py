"""Cluster profiles (``variables/<profile>.yaml``): settings of a cluster that do not depend on its topology."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import PROFILE_SCHEMA, profile_path
from mock_device.lab.cluster.loader_settings import KmmSettings, LoaderKind, parse_kmm
from mock_device.lab.guest.accelerator import accelerator

# Keys and values, from the JSON schema that editors use as well.
_KEYS: dict[str, Any] = json.loads(PROFILE_SCHEMA.read_text())["properties"]
_KINDS: list[str] = _KEYS["kind"]["enum"]
_ACCELERATORS: list[str] = _KEYS["accelerator"]["enum"]
_LOADERS: list[str] = _KEYS["module-loader"]["enum"]
_GATE = re.compile(_KEYS["feature-gates"]["propertyNames"]["pattern"])


@dataclass(frozen=True)
class Profile:
    """A cluster profile."""

    path: Path
    kind: str
    accelerator: str
    """QEMU's accelerator, ``kvm`` or ``tcg``."""
    feature_gates: Mapping[str, bool]
    """Feature gates of all control plane components and kubelets."""
    module_loader: LoaderKind = LoaderKind.POD
    """What brings the kernel module to the nodes."""
    kmm: KmmSettings = field(default_factory=KmmSettings)
    """Where KMM's files are, for LoaderKind.KMM."""


def load(name: str) -> Profile:
    """Load the profile ``name``: a name in ``variables``, or a path. Raises StepError with file and reason."""
    path = profile_path(name)
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error
    return _parse(path, fields)


def _parse(path: Path, fields: Any) -> Profile:
    def refuse(reason: str) -> NoReturn:
        raise StepError(f"{path}: {reason}")

    if not isinstance(fields, dict):
        refuse("expected a mapping with the key 'kind'")
    if unknown := sorted(map(str, fields.keys() - _KEYS.keys())):
        refuse(f"unknown keys {', '.join(unknown)}; expected {', '.join(_KEYS)}")
    kind, wanted, gates = fields.get("kind"), fields.get("accelerator", "auto"), fields.get("feature-gates") or {}
    if kind not in _KINDS:
        refuse(f"expected kind {' or '.join(_KINDS)}, found {kind!r}")
    if wanted not in _ACCELERATORS:
        refuse(f"expected accelerator {', '.join(_ACCELERATORS)}, found {wanted!r}")
    if not isinstance(gates, dict) or not all(
        isinstance(name, str) and _GATE.fullmatch(name) and isinstance(value, bool) for name, value in gates.items()
    ):
        refuse(f"feature-gates: expected true or false by name, found {gates!r}")
    loader = fields.get("module-loader", LoaderKind.POD.value)
    if loader not in _LOADERS:
        refuse(f"expected module-loader {' or '.join(_LOADERS)}, found {loader!r}")
    try:
        kmm = parse_kmm(fields.get("kmm") or {})
    except ValueError as error:
        refuse(f"kmm: {error}")
    return Profile(path, kind, accelerator() if wanted == "auto" else wanted, gates, LoaderKind(loader), kmm)


def flag(gates: Mapping[str, bool]) -> str:
    """Format ``gates`` as the value of ``--feature-gates``."""
    return ",".join(f"{name}={str(value).lower()}" for name, value in sorted(gates.items()))
