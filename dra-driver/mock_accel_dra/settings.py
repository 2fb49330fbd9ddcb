"""What the two programs can be told, with the paths of Kubernetes as defaults."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from mock_accel_dra import DRIVER_NAME

_UID_CHARACTERS = 8
"""Enough to tell whose a socket is."""


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
    api_server: str = ""
    """URL; empty in a pod, which finds it by itself."""
    health_port: int = 8080
    """TCP port; 0 for none."""
    pod_uid: str = ""
    """Empty outside a pod; the sockets have fixed names then."""
    start_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Another one for each start, so that no two starts in pods have the same sockets.

    An agent that replaces another one runs beside it for a while. And the kubelet tries the
    socket that an agent left at a power cut more and more seldom, every two minutes in the end
    (pkg/kubelet/pluginmanager: the operations of a path back off together): an agent that came
    back under the same name would wait as long.
    """

    @property
    def service_socket(self) -> Path:
        return self.plugin_dir / f"dra{self._suffix}.sock"

    @property
    def registration_socket(self) -> Path:
        return self.registry_dir / f"{DRIVER_NAME}{self._suffix}-reg.sock"

    @property
    def registration_pattern(self) -> str:
        """Names of the registration sockets of all drivers of this name."""
        return f"{DRIVER_NAME}*-reg.sock"

    @property
    def service_pattern(self) -> str:
        """Names of the service sockets of all drivers of this name."""
        return "dra*.sock"

    @property
    def _suffix(self) -> str:
        # Not the whole uid: a socket's path has at most 107 bytes.
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
