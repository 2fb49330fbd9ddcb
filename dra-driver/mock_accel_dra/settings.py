"""Settings of the two programs; defaults are the standard paths of Kubernetes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from mock_accel_dra import DRIVER_NAME
from mock_accel_dra.features import Feature

_UID_CHARACTERS = 8
"""Enough to recognize the pod that owns a socket."""


@dataclass(frozen=True)
class AgentSettings:
    """Settings of the node agent."""

    node_name: str
    sysfs_root: Path = Path("/sys")
    cdi_root: Path = Path("/var/run/cdi")
    plugin_dir: Path = Path("/var/lib/kubelet/plugins") / DRIVER_NAME
    registry_dir: Path = Path("/var/lib/kubelet/plugins_registry")
    rescan_interval: float = 30.0
    """Seconds."""
    kernel_events: bool = True
    """Rescan at once when the kernel announces a change."""
    reset_after: float = 10.0
    """Seconds from a problem that a reset may end until the reset; infinite for no resets."""
    features: frozenset[Feature] = frozenset()
    api_server: str = ""
    """URL; empty in a pod, which finds the API server by its environment."""
    health_port: int = 8080
    """TCP port; 0 for none."""
    pod_uid: str = ""
    """Empty outside a pod; then the sockets have fixed names."""
    start_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Unique per start, so that no two starts in pods have the same socket names.

    Reasons: docs/decisions/0012-socket-name-per-start.md.
    """

    @property
    def service_socket(self) -> Path:
        return self.plugin_dir / f"dra{self._suffix}.sock"

    @property
    def registration_socket(self) -> Path:
        return self.registry_dir / f"{DRIVER_NAME}{self._suffix}-reg.sock"

    @property
    def registration_pattern(self) -> str:
        """Glob pattern of the registration sockets of all agents of this driver."""
        return f"{DRIVER_NAME}*-reg.sock"

    @property
    def service_pattern(self) -> str:
        """Glob pattern of the service sockets of all agents of this driver."""
        return "dra*.sock"

    @property
    def _suffix(self) -> str:
        # Only the beginning of the uid: a socket's path has at most 107 bytes.
        return f"-{self.pod_uid[:_UID_CHARACTERS]}-{self.start_id}" if self.pod_uid else ""

    @property
    def state_file(self) -> Path:
        return self.plugin_dir / "state.json"


@dataclass(frozen=True)
class ControllerSettings:
    """Settings of the controller."""

    resync_interval: float = 60.0
    """Seconds."""
    api_server: str = ""
    health_port: int = 8080
