"""The borrowed cluster of a suite, and commands on its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.runtimes import PROBED
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.nodes.session import Session
from mock_device.lab.cluster import node_runtime

NODES = [node.name for node in CLUSTER.nodes]


class Shell:
    """A fake connection to a node, which answers with its name or not at all."""

    def __init__(self, name: str, *, silent: bool) -> None:
        self.name, self.silent = name, silent
        self.timeouts: list[float] = []
        self.closed = False
        self.probed = PROBED

    def run(self, command: str, timeout: float) -> str:
        self.timeouts.append(timeout)
        if command == node_runtime.PROBE:
            return self.probed
        if self.silent:
            raise CheckError(f"{self.name} does not answer")
        return f"{self.name}: {command}"

    def close(self) -> None:
        self.closed = True


class Borrowed:
    """A borrowed cluster, and the connections that were made to its nodes."""

    def __init__(self, *silent: str) -> None:
        self.shells: list[Shell] = []
        self.released = 0
        cluster: Any = SimpleNamespace(topology=CLUSTER, node=lambda name: name, release=self._release)

        def connect(name: Any) -> Shell:
            self.shells.append(Shell(name, silent=name in silent))
            return self.shells[-1]

        self.session = Session(cluster, connect, command_seconds=60.0)

    def _release(self) -> None:
        self.released += 1


@pytest.fixture(autouse=True)
def no_session() -> Iterator[None]:
    yield
    session.end()


def test_connection_to_each_node_is_made_once() -> None:
    borrowed = Borrowed()
    assert borrowed.session.on_node(NODES[0], "uptime") == f"{NODES[0]}: uptime"
    assert borrowed.session.on_node(NODES[0], "uptime", timeout=5.0)
    assert [(shell.name, shell.timeouts) for shell in borrowed.shells] == [(NODES[0], [60.0, 5.0])]


def test_answers_of_all_nodes_are_returned() -> None:
    assert Borrowed().session.on_nodes("uptime") == {name: f"{name}: uptime" for name in NODES}


def test_runtime_of_a_node_is_found_once() -> None:
    borrowed = Borrowed()
    assert borrowed.session.runtime(NODES[0]).service == "containerd.service"
    assert borrowed.session.on_node(NODES[0], lambda found: f"du {found.kubelet_root}") == (
        f"{NODES[0]}: du /var/lib/kubelet"
    )
    assert borrowed.shells[0].timeouts == [60.0, 60.0]
    assert list(borrowed.session.runtimes()) == NODES


def test_node_without_a_runtime_is_an_error() -> None:
    borrowed = Borrowed()
    borrowed.session.on_node(NODES[0], "uptime")
    borrowed.shells[0].probed = ""
    with pytest.raises(CheckError, match=f"{NODES[0]}: no container runtime listens"):
        borrowed.session.runtime(NODES[0])


def test_silent_node_is_an_error_unless_tolerated() -> None:
    borrowed = Borrowed(NODES[1])
    with pytest.raises(CheckError, match=f"{NODES[1]} does not answer"):
        borrowed.session.on_nodes("uptime")
    assert borrowed.session.answers_of_nodes("uptime") == (
        {NODES[0]: f"{NODES[0]}: uptime"},
        {NODES[1]: f"{NODES[1]} does not answer"},
    )


def test_end_closes_connections_and_releases_the_cluster_once() -> None:
    borrowed = Borrowed()
    session.begin(borrowed.session)
    assert session.active()
    session.current().on_nodes("uptime")
    session.end()
    session.end()
    assert [shell.closed for shell in borrowed.shells] == [True, True]
    assert (borrowed.released, session.active()) == (1, False)


def test_another_cluster_replaces_the_first() -> None:
    first, second = Borrowed(), Borrowed()
    session.begin(first.session)
    session.begin(second.session)
    assert (first.released, second.released) == (1, 0)
    assert session.current() is second.session


def test_error_without_a_cluster_says_how_to_borrow_one() -> None:
    with pytest.raises(CheckError, match="no cluster is borrowed: a suite needs 'Suite Setup    Borrow Cluster'"):
        session.current()
