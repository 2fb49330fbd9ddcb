"""Suites that run alone on the machine."""

from __future__ import annotations

import pytest
from robot.running import TestSuite

from mock_device.acceptance.suite_tags import first_version, needed, runs_alone, too_old
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


def test_capabilities_are_tags() -> None:
    assert needed(["numa", "needs-hotplug", "needs-device-server"]) == {Capability.HOTPLUG, Capability.DEVICE_SERVER}
    with pytest.raises(StepError, match=r"expected a tag needs- with api, .* console, found wings"):
        needed(["needs-wings"])


def test_first_version_of_kubernetes_is_a_tag() -> None:
    assert first_version(["numa", "needs-power"]) == ""
    assert first_version(["since-v1.9", "numa", "since-v1.36", "since-v1.35"]) == "v1.36"
    with pytest.raises(StepError, match="expected a version of Kubernetes such as v1.37, found '2026'"):
        first_version(["since-2026"])


@pytest.mark.parametrize("release", ["v1.36.3", "v1.37.0", "v1.36.3+k3s1"])
def test_version_that_is_new_enough(release: str) -> None:
    assert too_old("v1.36", release) == too_old("", release) == ""


def test_version_that_is_too_old() -> None:
    assert too_old("v1.36", "v1.35.4") == "needs Kubernetes v1.36 or later, the cluster has v1.35.4"
