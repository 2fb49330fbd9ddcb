"""Tests that need what a cluster lacks, or a later Kubernetes, are skipped, by Robot Framework itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import api_server
from robot.running import TestSuite
from support.topologies import CLUSTER

from mock_device.checks.nodes import session
from mock_device.checks.nodes.session import Session
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.cluster.cluster import ALWAYS, Capability, Cluster

SUITE = f"""
*** Settings ***
Library    {PROJECT}/libraries/ClusterLibrary.py
Test Setup    Log    before

*** Test Cases ***
Plugs
    [Tags]    needs-hotplug    needs-power
    Fail    it ran

Reads
    [Tags]    needs-api
    Log    read

Flies
    [Tags]    needs-wings
    Log    flew
"""

OF_VERSIONS = f"""
*** Settings ***
Library    {PROJECT}/libraries/ClusterLibrary.py

*** Test Cases ***
Old
    [Tags]    since-v1.35
    Log    read

Same
    [Tags]    since-v1.36    needs-api
    Log    read

New
    [Tags]    since-v1.37    since-v1.35
    Fail    it ran

Wrong
    [Tags]    since-yesterday
    Log    read
"""


def cluster_with(capabilities: frozenset[Capability]) -> Any:
    cluster: Any = SimpleNamespace(
        name="some",
        topology=CLUSTER,
        capabilities=capabilities,
        report_activity=lambda _: None,
        release=lambda: None,
    )
    cluster.check_offers = lambda needed: Cluster.check_offers(cluster, needed)
    return cluster


@pytest.fixture(params=[ALWAYS, frozenset(Capability)], ids=["foreign", "guests"])
def capabilities(request: pytest.FixtureRequest) -> Iterator[frozenset[Capability]]:
    session.begin(Session(cluster_with(request.param), lambda _: SimpleNamespace()))
    yield request.param
    session.end()


def test_test_without_its_capabilities_is_skipped_with_the_reason(capabilities: frozenset[Capability]) -> None:
    result = TestSuite.from_string(SUITE).run(output=None, console="none")
    plugs, reads, flies = result.suite.tests
    if Capability.POWER in capabilities:
        assert (plugs.status, plugs.message) == ("FAIL", "it ran")
    else:
        reason = "cluster 'some' has no hotplug, power, which only clusters have whose nodes the lab runs"
        assert (plugs.status, plugs.message) == ("SKIP", reason)
    assert reads.status == "PASS"
    assert flies.status == "FAIL"
    assert flies.message.startswith("expected a tag needs- with api, nodes, topology, hotplug,")


def test_test_for_a_later_kubernetes_is_skipped_with_the_reason() -> None:
    current = Session(cluster_with(ALWAYS), lambda _: SimpleNamespace())
    current.__dict__["release"] = "v1.36.3"
    session.begin(current)
    try:
        result = TestSuite.from_string(OF_VERSIONS).run(output=None, console="none")
    finally:
        session.end()
    old, same, new, wrong = result.suite.tests
    assert (old.status, same.status) == ("PASS", "PASS")
    assert (new.status, new.message) == ("SKIP", "needs Kubernetes v1.37 or later, the cluster has v1.36.3")
    assert (wrong.status, wrong.message) == (
        "FAIL",
        "expected a version of Kubernetes such as v1.37, found 'yesterday'",
    )


def test_cluster_that_does_not_tell_its_version_fails_the_test() -> None:
    with api_server({}) as api:
        current = Session(cluster_with(ALWAYS), lambda _: SimpleNamespace())
        current.__dict__["api"] = api
        session.begin(current)
        try:
            result = TestSuite.from_string(OF_VERSIONS).run(output=None, console="none")
        finally:
            session.end()
    assert {test.status for test in result.suite.tests} == {"FAIL"}
    assert "404" in result.suite.tests[0].message
