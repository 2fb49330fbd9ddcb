"""Robot Framework library: breaks single stretches of a device's way, and mends them."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library

from mock_device.checks.driver import faults
from mock_device.checks.nodes import session


@library(scope="GLOBAL", auto_keywords=False)
class FaultsLibrary:
    """For tests that expect somebody to notice. Each fault has its keyword that mends it, for a teardown."""

    @keyword
    def send_node_agents_away(self) -> None:
        """Let the node agents' DaemonSet want nodes with a label that none has; returns before they are gone."""
        faults.send_agents_away(session.current().api)

    @keyword
    def bring_node_agents_back(self) -> None:
        """Let the DaemonSet want all nodes again; returns before the agents are ready."""
        faults.bring_agents_back(session.current().api)

    @keyword
    def remove_rights_of_node_agents(self) -> None:
        """Delete the node agents' ClusterRoleBinding."""
        faults.remove_rights(session.current().api)

    @keyword
    def restore_rights_of_node_agents(self) -> None:
        """Apply the driver's RBAC manifest again."""
        faults.restore_rights(session.current().api)

    @keyword(name="Cover CDI Folder")
    def cover_cdi_folder(self, node: str) -> None:
        """Mount an empty, read-only file system on the CDI folder of ``node``: containerd finds no file there."""
        faults.cover_cdi_folder(session.current(), node)

    @keyword(name="Uncover CDI Folder")
    def uncover_cdi_folder(self, node: str) -> None:
        """Take that file system away again; containerd restarts."""
        faults.uncover_cdi_folder(session.current(), node)

    @keyword
    def turn_clock(self, node: str, ahead: timedelta) -> None:
        """Let the clock of ``node`` be ``ahead`` of this machine's; 0 makes it right again."""
        faults.turn_clock(session.current(), node, ahead)

    @keyword
    def set_default_container_runtime(self, node: str, name: str) -> None:
        """Let containerd of ``node`` run containers by ``name``, a runtime of its configuration; it restarts."""
        faults.set_default_runtime(session.current(), node, name)
