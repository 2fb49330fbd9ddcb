"""Clusters for the tests of the suites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import DATA

from mock_device import topology
from mock_device.lab.base.defaults import DEFAULT_PROFILE
from mock_device.lab.cluster import client, golden, profile
from mock_device.lab.cluster.cluster import Cluster


@pytest.fixture(scope="session")
def miswired() -> Path:
    """A topology that contradicts itself; its golden cluster is there, so that clusters of it start soon."""
    path = DATA / "topologies/miswired.yaml"
    golden.with_driver(topology.load(path), profile.load(DEFAULT_PROFILE))
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The default cluster, started for these tests when nobody has done so."""
    cluster = client.default("tests of the suites")
    yield cluster
    cluster.release()
