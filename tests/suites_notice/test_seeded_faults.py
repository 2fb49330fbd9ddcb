"""Six of the seeded faults: the right test notices each, and its message names the cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from suites_notice.seeding import catalogue
from suites_notice.seeding.catalogue import Fault
from suites_notice.seeding.trial import Trial

from mock_device.lab.cluster.cluster import Cluster

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

SAMPLE = [fault for fault in catalogue.load() if fault.sample]


@pytest.mark.usefixtures("miswired")
@pytest.mark.parametrize("fault", SAMPLE, ids=lambda fault: fault.name)
def test_seeded_fault_is_noticed_by_the_right_test(fault: Fault, cluster: Cluster, tmp_path: Path) -> None:
    verdict = Trial(fault, cluster, tmp_path).verdict()
    assert verdict.caught_by == "right test", verdict.reason
