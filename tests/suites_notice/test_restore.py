"""Restored clusters are healthy and independent, even if they come from the same golden cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mock_device.checks import health
from mock_device.lab.cluster import client
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.cluster.ssh import on_node

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

SSH_SECONDS = 60.0


@pytest.fixture(scope="module")
def second(cluster: Cluster) -> Iterator[Cluster]:
    """Another cluster of the first one's topology."""
    second = client.up(name=f"run-second-{os.getpid()}", who="test of the restore")
    assert second.topology.path == cluster.topology.path
    yield second
    second.release()


def test_two_clusters_from_one_golden_cluster_are_healthy(cluster: Cluster, second: Cluster) -> None:
    expected = sum(not function.is_vf for node in second.topology.nodes for function in node.functions)
    for each in (cluster, second):
        status = health.collect(each, SSH_SECONDS)
        assert status.healthy, status
        assert status.slices == expected


def test_clocks_are_right(second: Cluster) -> None:
    for node in second.topology.nodes:
        before = time.time()
        clock = float(on_node(second.node(node.name), ["date", "+%s.%N"], timeout=SSH_SECONDS))
        assert before - 1 < clock < time.time() + 1, node.name


def test_disks_are_separate(cluster: Cluster, second: Cluster) -> None:
    name = second.topology.nodes[0].name
    on_node(second.node(name), ["touch", "/root/mark"], timeout=SSH_SECONDS)
    assert "mark" not in on_node(cluster.node(name), ["ls", "/root"], timeout=SSH_SECONDS)
