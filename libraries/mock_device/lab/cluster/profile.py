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
from mock_device.lab.build.k3s_image import k3s_image
from mock_device.lab.build.node_image import NodeImage, build_node_image
from mock_device.lab.cluster import k3s_profile
from mock_device.lab.cluster.k3s_profile import K3s
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
    accelerator_found: bool
    """Whether the accelerator was found on this machine (``auto``) instead of asked for."""
    feature_gates: Mapping[str, bool]
    """Feature gates of all control plane components and kubelets."""
    default_runtime: str
    """OCI runtime of containers whose pods name no RuntimeClass."""
    runtime_config: Mapping[str, bool] = field(default_factory=dict)
    """API versions that the API server serves or not, beside its defaults (``resource.k8s.io/v1alpha3``)."""
    kubelet_config: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the KubeletConfiguration of every node, beside those of the node image."""
    module_loader: LoaderKind = LoaderKind.POD
    """What brings the kernel module to the nodes."""
    kmm: KmmSettings = field(default_factory=KmmSettings)
    """Where KMM's files are, for LoaderKind.KMM."""
    k3s: K3s | None = None
    """Settings of kind ``k3s``."""
    internet: bool = False
    """Whether guests reach the outside."""
    nested: bool = False
    """Whether guests can run guests themselves, with ``kvm``."""
    timeout_factor: float = 1.0
    """Factor of all time-outs, unless the environment names one (``lab.base.timeouts``)."""

    def kubelet_drop_in(self) -> str:
        """YAML of a drop-in for the kubelet's configuration (Kubernetes, "Kubelet Configuration Directory")."""
        kind = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
        return yaml.safe_dump({**kind, **self.kubelet_config})

    def node_image(self) -> NodeImage:
        """The image of the nodes; built if it is not cached. Raises StepError."""
        return k3s_image(self.k3s.find_binary()) if self.k3s else build_node_image()


def load(name: str) -> Profile:
    """Load the profile ``name``: a name in ``variables``, or a path. Raises StepError with file and reason."""
    path, fields = read(name)
    if fields["kind"] == "external":
        raise StepError(f"{path}: describes a cluster that exists; use it by: lab attach --profile {name}")
    wanted = fields.get("accelerator", "auto")
    return Profile(
        path=path,
        kind=fields["kind"],
        accelerator=accelerator() if wanted == "auto" else wanted,
        accelerator_found=wanted == "auto",
        feature_gates=fields.get("feature-gates") or {},
        runtime_config=fields.get("runtime-config") or {},
        default_runtime=fields.get("default-runtime", _SCHEMA["properties"]["default-runtime"]["default"]),
        kubelet_config=fields.get("kubelet-config") or {},
        module_loader=LoaderKind(fields.get("module-loader", LoaderKind.POD.value)),
        kmm=kmm_settings(fields.get("kmm") or {}),
        k3s=k3s_profile.parse(fields["k3s"]) if "k3s" in fields else None,
        internet=fields.get("internet", False),
        nested=fields.get("nested-virtualisation", False),
        timeout_factor=timeout_factor(fields),
    )


def timeout_factor(fields: Mapping[str, Any]) -> float:
    """The key ``timeout-factor`` of a profile of any kind with these keys."""
    return float(fields.get("timeout-factor", 1))


def read(name: str) -> tuple[Path, dict[str, Any]]:
    """File of the profile ``name``, of any kind, and its keys. Raises StepError with file and reason."""
    path = profile_path(name)
    return path, read_keys(path)


def read_keys(path: Path) -> dict[str, Any]:
    """Keys of the profile ``path``, of any kind. Raises StepError with file and reason."""
    fields = _read(path)
    if wrong := schema.complaint(_SCHEMA, fields):
        raise StepError(f"{path}: {wrong}")
    return dict(fields)


def _read(path: Path) -> Any:
    """Content of a profile. ``extends`` names a file beside it, whose keys it changes; a mapping, key by key."""
    fields = _yaml(path)
    if not isinstance(fields, dict) or "extends" not in fields:
        return fields
    base = fields.pop("extends")
    if not isinstance(base, str) or not path.with_name(base).is_file():
        raise StepError(f"{path}: extends: expected the name of a file beside it, found {base!r}")
    extended = _yaml(path.with_name(base))
    if not isinstance(extended, dict) or "extends" in extended:
        raise StepError(f"{path}: extends: expected a profile without extends, found {base}")
    for key, value in fields.items():
        old = extended.get(key)
        extended[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return extended


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error


def flag(values: Mapping[str, bool]) -> str:
    """Format ``values`` as the value of ``--feature-gates`` or ``--runtime-config``."""
    return ",".join(f"{name}={str(value).lower()}" for name, value in sorted(values.items()))
