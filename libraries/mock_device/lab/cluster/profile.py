"""Cluster profiles (``variables/<profile>.yaml``): settings of a cluster that do not depend on its topology."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mock_device.lab.base import schema
from mock_device.lab.base.defaults import DEFAULT_KUBERNETES
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.variables import PROFILE_SCHEMA, profile_path
from mock_device.lab.build import feature_gates
from mock_device.lab.build.k3s_image import k3s_image
from mock_device.lab.build.node_image import NodeImage, build_node_image
from mock_device.lab.cluster import k3s_profile
from mock_device.lab.cluster.k3s_profile import K3s
from mock_device.lab.cluster.loader_settings import KmmSettings, LoaderKind, kmm_settings
from mock_device.lab.guest.accelerator import accelerator

_SCHEMA: dict[str, Any] = json.loads(PROFILE_SCHEMA.read_text())
"""The schema that editors use as well."""


class NoVersionError(StepError):
    """A profile whose cluster is not of the lab's Kubernetes was asked for a version of it."""


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
    kubernetes: KubernetesVersion | None = DEFAULT_KUBERNETES
    """Which of the lab's versions the cluster runs; None if it runs a k3s of the user's."""
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

    @property
    def programs(self) -> KubernetesVersion:
        """Version of the programs on this machine, also where the nodes run a k3s of the user's."""
        return self.kubernetes or DEFAULT_KUBERNETES

    def kubelet_drop_in(self) -> str:
        """YAML of a drop-in for the kubelet's configuration (Kubernetes, "Kubelet Configuration Directory")."""
        kind = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
        return yaml.safe_dump({**kind, **self.kubelet_config})

    def node_image(self) -> NodeImage:
        """The image of the nodes; built if it is not cached. Raises StepError."""
        if self.k3s:
            return k3s_image(self.k3s.find_binary(), self.programs)
        return build_node_image(self.programs)


def load(name: str, kubernetes: KubernetesVersion | None = None) -> Profile:
    """Load the profile ``name``: a name in ``variables``, or a path. Raises StepError with file and reason.

    ``kubernetes`` takes precedence over the profile's key.
    """
    path, fields = read(name)
    if fields["kind"] == "external":
        raise StepError(f"{path}: describes a cluster that exists; use it by: lab attach --profile {name}")
    wanted = fields.get("accelerator", "auto")
    k3s = k3s_profile.parse(fields["k3s"]) if "k3s" in fields else None
    version = _version(path, fields, k3s, kubernetes)
    return Profile(
        path=path,
        kind=fields["kind"],
        accelerator=accelerator() if wanted == "auto" else wanted,
        accelerator_found=wanted == "auto",
        feature_gates=_gates(path, fields.get("feature-gates") or {}, k3s, version),
        runtime_config=feature_gates.in_range(fields.get("runtime-config") or {}, _reference(k3s, version)),
        kubernetes=version,
        default_runtime=fields.get("default-runtime", _SCHEMA["properties"]["default-runtime"]["default"]),
        kubelet_config=fields.get("kubelet-config") or {},
        module_loader=LoaderKind(fields.get("module-loader", LoaderKind.POD.value)),
        kmm=kmm_settings(fields.get("kmm") or {}),
        k3s=k3s,
        internet=fields.get("internet", False),
        nested=fields.get("nested-virtualisation", False),
        timeout_factor=timeout_factor(fields),
    )


def _version(
    path: Path, fields: Mapping[str, Any], k3s: K3s | None, kubernetes: KubernetesVersion | None
) -> KubernetesVersion | None:
    """Which of the lab's versions a cluster runs: ``kubernetes``, else the profile's, else the default."""
    wanted = kubernetes or fields.get("kubernetes")
    if k3s is None or k3s.is_stand_in:
        return KubernetesVersion(wanted or DEFAULT_KUBERNETES)
    if wanted:
        raise NoVersionError(
            f"{path}: kubernetes: a k3s is of the version of its binary, found {wanted}; choose the binary: "
            "k3s.binary, k3s.version, or K3S_BINARY"
        )
    return None


def _gates(
    path: Path, wanted: Mapping[str, feature_gates.Wanted], k3s: K3s | None, version: KubernetesVersion | None
) -> dict[str, bool]:
    """Feature gates of a cluster. Those of a k3s of the user's, whose gates are unknown here, are not checked."""
    try:
        if version:
            return feature_gates.of_version(wanted, version)
        return feature_gates.in_range(wanted, _reference(k3s, version))
    except StepError as error:
        raise StepError(f"{path}: {error}") from error


def _reference(k3s: K3s | None, version: KubernetesVersion | None) -> KubernetesVersion:
    """The version by which ranges are judged; for a k3s of the user's the one to be downloaded, or the default."""
    downloaded = KubernetesVersion.of(k3s.version) if k3s else None
    return version or downloaded or DEFAULT_KUBERNETES


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
