"""Clusters for the tests of the suites."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for suite_run and traces

import topology
from lab import client, golden, profile
from lab.artifacts import PROJECT
from lab.cluster import Cluster


@pytest.fixture(scope="session")
def miswired() -> Path:
    """A topology that contradicts itself; its golden cluster is there, so that clusters of it start soon."""
    path = PROJECT / "tests/data/topologies/miswired.yaml"
    golden.with_driver(topology.load(path), profile.load(client.DEFAULT_PROFILE))
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The default cluster, started for these tests when nobody has done so."""
    cluster = client.default("tests of the suites")
    yield cluster
    cluster.release()
