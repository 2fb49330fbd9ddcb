"""The cluster that this process has borrowed, and its open connections."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Protocol, TypeVar

from kubernetes.client import ApiClient

from mock_device.checks.errors import CheckError
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import node_runtime
from mock_device.lab.cluster.cluster import Cluster, NodeAccess
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.kube import features, kubeclient
from mock_device.lab.kube.features import Offered
from mock_device.topology import Topology

Result = TypeVar("Result")
Command = str | Callable[[NodeRuntime], str]
"""A shell command, or a function that makes it from what is known of a node's runtime."""


class Shell(Protocol):
    """A connection to one node."""

    def run(self, command: str, timeout: float) -> str:
        """Run ``command`` with the node's ``sh`` and return its standard output. ``timeout`` is in seconds."""

    def close(self) -> None: ...


class Session:
    """A borrowed cluster. Connections are made on first use."""

    def __init__(
        self, cluster: Cluster, connect: Callable[[NodeAccess], Shell], command_seconds: float | None = None
    ) -> None:
        """``command_seconds`` is the default time-out of commands on nodes; without it, Timeout.NODE_COMMAND."""
        self.cluster = cluster
        self.command_seconds = Timeout.NODE_COMMAND.seconds if command_seconds is None else command_seconds
        self._connect = connect
        self._shells: dict[str, Shell] = {}
        self._runtimes: dict[str, NodeRuntime] = {}

    @property
    def topology(self) -> Topology:
        return self.cluster.topology

    @cached_property
    def api(self) -> ApiClient:
        """Client of the API server, with the cluster administrator's rights."""
        return kubeclient.connect(self.cluster.kubeconfig)

    @cached_property
    def kubernetes(self) -> Offered:
        """What of Kubernetes the cluster has, read once. Raises StepError."""
        return features.read(self.api)

    @property
    def node_names(self) -> list[str]:
        return [node.name for node in self.topology.nodes]

    def on_node(self, node: str, command: Command, timeout: float | None = None) -> str:
        """Output of a shell command on ``node``; ``timeout`` is in seconds."""
        if node not in self._shells:
            self._shells[node] = self._connect(self.cluster.node(node))
        text = command if isinstance(command, str) else command(self.runtime(node))
        return self._shells[node].run(text, timeout or self.command_seconds)

    def runtime(self, node: str) -> NodeRuntime:
        """Container runtime and kubelet of ``node``, found there once. Raises CheckError if there are none."""
        if node not in self._runtimes:
            try:
                self._runtimes[node] = node_runtime.parse(node, self.on_node(node, node_runtime.PROBE))
            except StepError as error:
                raise CheckError(str(error)) from error
        return self._runtimes[node]

    def runtimes(self) -> dict[str, NodeRuntime]:
        """Container runtimes and kubelets by node, found in parallel. Raises CheckError."""
        return self._in_parallel(self.runtime)

    def _in_parallel(self, work: Callable[[str], Result]) -> dict[str, Result]:
        names = self.node_names
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(work, names), strict=True))

    def on_nodes(self, command: Command, timeout: float | None = None) -> dict[str, str]:
        """Run a shell command on all nodes in parallel and return its outputs by node.

        Without hardware virtualisation each command takes most of a second, so
        prefer one command that reads everything to several.
        """
        return self._in_parallel(lambda name: self.on_node(name, command, timeout))

    def answers_of_nodes(self, command: Command, timeout: float | None = None) -> tuple[dict[str, str], dict[str, str]]:
        """Like ``on_nodes``, but tolerates errors: outputs of the nodes that answer, and the others' error messages."""

        def ask(name: str) -> str | CheckError:
            try:
                return self.on_node(name, command, timeout)
            except CheckError as error:
                return error

        found = self._in_parallel(ask)
        outputs = {name: answer for name, answer in found.items() if isinstance(answer, str)}
        return outputs, {name: str(answer) for name, answer in found.items() if isinstance(answer, CheckError)}

    def close(self) -> None:
        """Close all connections and release the cluster."""
        try:
            for shell in self._shells.values():
                shell.close()
            self._shells.clear()
            if "api" in self.__dict__:
                self.api.close()  # type: ignore[no-untyped-call]
        finally:
            self.cluster.release()


_session: Session | None = None


def begin(session: Session) -> None:
    """Make ``session`` the current one, after ending an earlier one."""
    global _session  # noqa: PLW0603 - a suite has one process and one cluster
    end()
    _session = session


def current() -> Session:
    """The session of this process. Raises CheckError if no cluster is borrowed."""
    if _session is None:
        raise CheckError("no cluster is borrowed: a suite needs 'Suite Setup    Borrow Cluster'")
    return _session


def active() -> bool:
    """Whether a cluster is borrowed."""
    return _session is not None


def end() -> None:
    """End the current session, if there is one, and release its cluster."""
    global _session
    if _session is not None:
        session, _session = _session, None
        session.close()
