"""What the two programs can be told, with the paths of Kubernetes as defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_accel_dra import DRIVER_NAME


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
    """Sets the sockets of this pod apart from those of one that replaces it, or that it replaces."""

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
        return f"-{self.pod_uid}" if self.pod_uid else ""

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
