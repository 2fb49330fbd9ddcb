"""Sessions for interactive commands, with short time-outs and tolerance of nodes that do not answer."""

from __future__ import annotations

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.checks.nodes.session import Command, Session
from mock_device.lab.cluster.cluster import Cluster


class LookingSession(Session):
    """Waits at most the cluster's ``look_seconds`` for each node."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, NodeShell, cluster.look_seconds)


class TolerantSession(LookingSession):
    """Skips nodes that do not answer, and records the reasons in ``silent``."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.silent: dict[str, str] = {}

    def on_nodes(self, command: Command, timeout: float | None = None) -> dict[str, str]:
        """Outputs of the nodes that answer. Raises CheckError if none does."""
        outputs, errors = self.answers_of_nodes(command, timeout)
        if not outputs:
            raise CheckError("\n".join(errors.values()))
        self.silent |= errors
        return outputs
