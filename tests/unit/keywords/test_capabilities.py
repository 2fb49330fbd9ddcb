"""Tests that need what a cluster, its driver or its Kubernetes lacks are skipped, by Robot Framework itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from robot.running import TestSuite
from support.topologies import CLUSTER

from mock_device.checks.nodes import session
from mock_device.checks.nodes.session import Session
from mock_device.driver import current, description
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.cluster.cluster import ALWAYS, Capability, Cluster
from mock_device.lab.kube.features import Gate, Offered

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

Heals
    [Tags]    needs-health    needs-class-vf
    Fail    it ran

Counts Pools
    [Tags]    gate-DRAResourcePoolStatus    since-1.36
    Log    counted

Looks
    [Tags]    gate-DRAAdminAccess    api-resource.k8s.io/v1    since-1.34
    Log    looked

Guesses
    [Tags]    gate-DRATypo    since-1.34
    Log    guessed
"""
DRIVER = """
name: gpu.example.com
namespace: gpus
device-classes: {all: gpu.example.com}
pods:
  node-agent: {workload: plugin, labels: {app: gpu}, container: driver}
"""
OFFERED = Offered(
    "v1.37.2",
    {
        "DRAAdminAccess": Gate("DRAAdminAccess", "GA", True),
        "DRAResourcePoolStatus": Gate("DRAResourcePoolStatus", "alpha", False),
    },
    {"resource.k8s.io/v1"},
)


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
    current = Session(cluster_with(request.param), lambda _: SimpleNamespace())
    current.kubernetes = OFFERED
    session.begin(current)
    yield request.param
    session.end()


def test_test_without_its_capabilities_is_skipped_with_the_reason(capabilities: frozenset[Capability]) -> None:
    result = TestSuite.from_string(SUITE).run(output=None, console="none")
    plugs, reads, flies, heals, counts, looks, guesses = result.suite.tests
    if Capability.POWER in capabilities:
        assert (plugs.status, plugs.message) == ("FAIL", "it ran")
    else:
        reason = "cluster 'some' has no hotplug, power, which only clusters have whose nodes the lab runs"
        assert (plugs.status, plugs.message) == ("SKIP", reason)
    assert reads.status == "PASS"
    assert flies.status == "FAIL"
    assert flies.message.startswith("expected a tag needs- with api, nodes, topology, hotplug,")
    assert counts.status == "SKIP"
    assert counts.message.startswith(
        "feature gate DRAResourcePoolStatus (alpha) of Kubernetes v1.37.2 is off; turn it on"
    )
    assert looks.status == "PASS"
    assert (guesses.status, guesses.message.partition(";")[0]) == (
        "FAIL",
        "expected a feature gate of Kubernetes v1.37.2, found DRATypo",
    )
    assert (heals.status, heals.message) == ("FAIL", "it ran")


def test_test_without_promises_of_its_driver_is_skipped_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(DRIVER)
    session.begin(Session(cluster_with(frozenset(Capability)), lambda _: SimpleNamespace()))
    current.use(description.read(path))
    try:
        heals = TestSuite.from_string(SUITE).run(output=None, console="none").suite.tests[3]
    finally:
        current.use(None)
        session.end()
    reason = f"driver gpu.example.com does not offer class-vf, health ({path})"
    assert (heals.status, heals.message) == ("SKIP", reason)
