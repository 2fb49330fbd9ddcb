"""The container runtime of a node."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

RESTART_TIMEOUT_SECONDS = 120.0
_PLUGIN = "io.containerd.cri.v1.runtime"


@dataclass(frozen=True)
class ContainerRuntime:
    """The runtime of containers whose pods request no other."""

    name: str
    binary: str


def cdi_folders(config: str) -> tuple[str, ...]:
    """Folders of the CDI files that containerd uses, from its configuration (version 3, TOML); none if CDI is off.

    By default, containerd 2 enables CDI with the folders /etc/cdi and /var/run/cdi.
    """
    settings = tomllib.loads(config).get("plugins", {}).get(_PLUGIN, {})
    if not settings.get("enable_cdi", True):
        return ()
    return tuple(settings.get("cdi_spec_dirs", ("/etc/cdi", "/var/run/cdi")))


def default_runtime(config: str) -> ContainerRuntime:
    """Default runtime in containerd's configuration (version 3, TOML). Raises ValueError if it has none."""
    document: dict[str, Any] = tomllib.loads(config)
    try:
        settings = document["plugins"][_PLUGIN]["containerd"]
        name = settings["default_runtime_name"]
        options = settings["runtimes"][name].get("options", {})
    except KeyError as error:
        raise ValueError(f"containerd's configuration has no {error} for a default runtime of {_PLUGIN}") from error
    return ContainerRuntime(name, options.get("BinaryName", ""))


def complaint(node: str, config: str, expected: str) -> str:
    """How the default runtime of ``node`` differs from the ``expected`` name and binary; empty if it does not."""
    try:
        found = default_runtime(config)
    except ValueError as error:
        return f"{node}: {error}"
    if found.name == expected == found.binary.rpartition("/")[2]:
        return ""
    return f"{node}: expected default runtime {expected}, found {found.name} ({found.binary or 'no binary given'})"
