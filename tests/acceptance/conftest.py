"""The cluster of ``lab up``, which the suites that these tests start use as well."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for suite_run

from lab import client
from lab.client import Cluster
from lab.control import NoClusterError

WHO = "tests of the suites"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The default cluster, started for these tests when nobody has done so."""
    try:
        cluster = client.attach(who=WHO)
    except NoClusterError:
        cluster = client.up(who=WHO)
    yield cluster
    cluster.release()
