"""Suites that run alone on the machine."""

from __future__ import annotations

import pytest
from robot.running import TestSuite

from mock_device.acceptance.suite_tags import needed, needed_of_kubernetes, runs_alone
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import Capability
from mock_device.lab.kube.features import Needed, Version


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


def test_gates_apis_and_first_version_are_tags() -> None:
    tags = ["dra", "gate-DRAResourcePoolStatus", "api-resource.k8s.io/v1alpha3", "since-1.36", "needs-hotplug"]
    found = needed_of_kubernetes(tags)
    gates, apis = frozenset({"DRAResourcePoolStatus"}), frozenset({"resource.k8s.io/v1alpha3"})
    assert found == Needed(gates, apis, Version(1, 36))
    assert found
    assert not needed_of_kubernetes(["dra", "needs-hotplug"])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (["gate-DRANext"], "expected one tag since- with the first version that has DRANext, found none"),
        (["api-some/v1", "since-1.36", "since-1.37"], "the first version that has some/v1, found 1.36, 1.37"),
        (["since-soon"], "tag since-: expected a version of Kubernetes such as 1.37, found 'soon'"),
    ],
)
def test_gate_without_a_first_version_is_refused(tags: list[str], reason: str) -> None:
    with pytest.raises(StepError, match=reason):
        needed_of_kubernetes(tags)
