"""The cluster of ``lab up``, which the suites that these tests start use as well."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for suite_run

from lab import client
from lab.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The default cluster, started for these tests when nobody has done so."""
    cluster = client.default("tests of the suites")
    yield cluster
    cluster.release()
