"""Suites that run alone on the machine."""

from __future__ import annotations

import pytest
from robot.running import TestSuite

from mock_device.acceptance.suite_tags import needed, runs_alone
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Capability


@pytest.mark.parametrize(
    ("tags", "alone"), [([["alone", "dense"], ["alone"]], True), ([["alone"], ["dense"]], False), ([], False)]
)
def test_all_tests_of_a_suite_need_the_tag(tags: list[list[str]], alone: bool) -> None:
    suite = TestSuite("Some")
    for number, found in enumerate(tags):
        suite.tests.create(name=f"Test {number}", tags=found)
    assert runs_alone(suite) is alone


def test_capabilities_and_offers_of_the_driver_are_tags() -> None:
    found = needed(["numa", "needs-hotplug", "needs-device-server", "needs-health", "needs-attribute-numa-node"])
    assert found.capabilities == {Capability.HOTPLUG, Capability.DEVICE_SERVER}
    assert found.offers == {"health", "attribute-numa-node"}
    with pytest.raises(StepError, match=r"expected a tag needs- with api, .* console, admin-access, .*, found wings"):
        needed(["needs-wings"])
