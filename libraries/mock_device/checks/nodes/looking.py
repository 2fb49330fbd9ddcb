"""A session for a person who looks at what there is: a node that does not answer does not hide the others."""

from __future__ import annotations

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.checks.nodes.session import Session
from mock_device.lab.cluster.cluster import Cluster


class LookingSession(Session):
    """Gives each node ``look_seconds`` of its cluster to answer."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, NodeShell, cluster.look_seconds)


class TolerantSession(LookingSession):
    """Leaves out nodes that do not answer, and says which and why in ``silent``."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.silent: dict[str, str] = {}

    def on_nodes(self, command: str, timeout: float | None = None) -> dict[str, str]:
        """As in Session, but of the nodes that answer. Raises CheckError when none does."""
        outputs, errors = self.answers_of_nodes(command, timeout)
        if not outputs:
            raise CheckError("\n".join(errors.values()))
        self.silent |= errors
        return outputs
