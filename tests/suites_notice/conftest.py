"""Fixtures with clusters for the tests of the suites."""

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
    """An inconsistent topology; its golden cluster is built first, so that clusters of it start fast."""
    path = DATA / "topologies/miswired.yaml"
    golden.with_driver(topology.load(path), profile.load(DEFAULT_PROFILE))
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The default cluster, started for these tests if it is not running."""
    cluster = client.default("tests of the suites")
    yield cluster
    cluster.release()
