"""The container runtime of a node."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

_PLUGINS = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")
"""containerd's CRI plugin since 2.0 (configuration version 3) and before."""


@dataclass(frozen=True)
class ContainerRuntime:
    """The runtime of containers whose pods request no other."""

    name: str
    binary: str
    """Path or name of its program."""


def cdi_folders(config: str) -> tuple[str, ...]:
    """Folders of the CDI files that the node's runtime uses, from its configuration (TOML); none if CDI is off.

    By default, containerd 2 and CRI-O use the folders /etc/cdi and /var/run/cdi.
    """
    settings = _settings(tomllib.loads(config))
    if not settings.get("enable_cdi", True):
        return ()
    return tuple(settings.get("cdi_spec_dirs", ("/etc/cdi", "/var/run/cdi")))


def default_runtime(config: str) -> ContainerRuntime:
    """Default OCI runtime in the configuration of containerd or CRI-O (TOML). Raises ValueError if it has none."""
    settings = _settings(tomllib.loads(config))
    if not settings:
        raise ValueError(f"expected the configuration of containerd or CRI-O, found {config[:200]!r}")
    containerd = "containerd" in settings
    try:
        table: Mapping[str, Any] = settings["containerd"] if containerd else settings
        name = table["default_runtime_name" if containerd else "default_runtime"]
        entry = table["runtimes"][name]
    except KeyError as error:
        raise ValueError(f"the runtime's configuration has no {error}, so no default OCI runtime") from error
    if containerd:
        # Without a name, io.containerd.runc.v2 looks for this program in the path.
        return ContainerRuntime(name, entry.get("options", {}).get("BinaryName") or "runc")
    return ContainerRuntime(name, entry.get("runtime_path") or name)


def _settings(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table with the settings of containers: that of containerd's CRI plugin, or that of CRI-O."""
    plugins = document.get("plugins", {})
    found: Mapping[str, Any] = next((plugins[name] for name in _PLUGINS if name in plugins), {})
    return found or document.get("crio", {}).get("runtime", {})


def complaint(node: str, config: str, expected: str) -> str:
    """How the default runtime of ``node`` differs from the ``expected`` name and program; empty if it does not.

    Any default runtime is right if ``expected`` is empty.
    """
    try:
        found = default_runtime(config)
    except ValueError as error:
        return f"{node}: {error}"
    if not expected or found.name == expected == PurePosixPath(found.binary).name:
        return ""
    return f"{node}: expected default runtime {expected}, found {found.name} ({found.binary})"


def set_default(config: str, name: str) -> str:
    """Shell command, without single quotes, that makes ``name`` containerd's default runtime from its next start on.

    ``config`` is the path of containerd's configuration. The setting may be there or in a file that it imports.
    """
    files = f'$(grep -rl "^ *default_runtime_name = " {PurePosixPath(config).parent})'
    return rf'sed -i "s/^\( *default_runtime_name\) = .*/\1 = \"{name}\"/" {files}'
