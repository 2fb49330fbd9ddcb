"""The container runtime of a node."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

# The configuration as the running version understands it, defaults and imports included.
PROBE = "containerd config dump"
# containerd's unit is active before it takes calls.
RESTART = "systemctl restart containerd && timeout 60 sh -c 'until ctr version >/dev/null 2>&1; do sleep 0.2; done'"
RESTART_TIMEOUT_SECONDS = 120.0
_PLUGIN = "io.containerd.cri.v1.runtime"


@dataclass(frozen=True)
class ContainerRuntime:
    """What runs containers when a pod asks for nothing else."""

    name: str
    binary: str


def cdi_folders(config: str) -> tuple[str, ...]:
    """Folders whose CDI files containerd applies, by its configuration (version 3, TOML); none when CDI is off.

    Without these settings containerd 2 has CDI on, for /etc/cdi and /var/run/cdi.
    """
    settings = tomllib.loads(config).get("plugins", {}).get(_PLUGIN, {})
    if not settings.get("enable_cdi", True):
        return ()
    return tuple(settings.get("cdi_spec_dirs", ("/etc/cdi", "/var/run/cdi")))


def default_runtime(config: str) -> ContainerRuntime:
    """Default runtime of containerd's configuration (version 3, TOML). Raises ValueError when it has none."""
    document: dict[str, Any] = tomllib.loads(config)
    try:
        settings = document["plugins"][_PLUGIN]["containerd"]
        name = settings["default_runtime_name"]
        options = settings["runtimes"][name].get("options", {})
    except KeyError as error:
        raise ValueError(f"containerd's configuration has no {error} for a default runtime of {_PLUGIN}") from error
    return ContainerRuntime(name, options.get("BinaryName", ""))
