"""Features of topologies that suites can request."""

from __future__ import annotations

import pytest

from mock_device import topology
from mock_device.lab.base.variables import topology_path
from mock_device.topology.features import Feature, missing, offered


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("numa-cluster", {Feature.NUMA, Feature.TWO_NODES, Feature.SRIOV}),
        ("single-node", {Feature.NUMA, Feature.SRIOV}),
        ("three-nodes", {Feature.NUMA, Feature.TWO_NODES, Feature.SRIOV}),
        ("no-sriov", {Feature.NUMA, Feature.TWO_NODES}),
        ("dense", {Feature.NUMA, Feature.DENSE}),
    ],
)
def test_features_of_the_topologies(name: str, features: set[Feature]) -> None:
    found = topology.load(topology_path(name))
    assert offered(found) == features
    assert missing(found, Feature) == sorted(feature.value for feature in set(Feature) - features)
    assert missing(found, features) == []
