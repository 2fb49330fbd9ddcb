"""Certificates for the tests of the control plane's modules."""

from __future__ import annotations

import pytest

from mock_device.lab.controlplane.pki import Pki, create_pki

NODES = [("node1", "192.168.122.211"), ("node2", "192.168.122.212")]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates of a cluster with two nodes."""
    return create_pki(tmp_path_factory.mktemp("pki"), NODES)
