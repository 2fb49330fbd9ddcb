"""The API server accepts the driver's names for any name of node and claim."""

from __future__ import annotations

import re

import pytest
from dra_fakes.apiserver import FakeApiServer
from mock_accel_dra import names
from mock_accel_dra.api import Client
from mock_accel_dra.discovery import Device
from mock_accel_dra.reports import Reporter
from mock_accel_dra.slices import changes, desired
from mock_accel_dra.state import PreparedClaim, PreparedDevice

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
PF = Device("mock0", "U", 1 << 30, 0, ("compute",), 0, "0000:11:00.0", "pci0000:10", total_vfs=1)
VF = Device("mock0_vf0", "V", 1 << 30, 0, ("compute",), 0, "0000:11:00.1", "pci0000:10", physfn="0000:11:00.0")
NODES = [
    "node-1",
    "node-1.example.com",
    *("n" * length for length in (63, 64, 105, 106, 223, 224, 247, 253)),
    # Truncation leaves a dash or a dot at the end.
    ".".join(["a"] * 127),
    "a" + "-" * 251 + "a",
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: f"{node[:3]}{len(node)}")
def test_names_of_slices_pools_and_labels(node: str) -> None:
    pools = desired(node, "uid", [PF, VF])
    assert all(names.is_pool_of(pool, node) for pool in pools)
    for pool, change in changes(pools, []).items():
        assert len(pool) <= 253
        assert all(SUBDOMAIN.fullmatch(part) for part in pool.split("/"))
        for item in change.write:
            assert item["spec"]["nodeName"] == node  # never truncated: the scheduler matches by it
            assert item["metadata"]["ownerReferences"][0]["name"] == node
            assert len(item["metadata"]["name"]) <= 253
            assert SUBDOMAIN.fullmatch(item["metadata"]["name"])
            for value in item["metadata"]["labels"].values():
                assert len(value) <= 63
                assert LABEL.fullmatch(value)


@pytest.mark.parametrize("node", NODES, ids=lambda node: f"{node[:3]}{len(node)}")
def test_field_manager(node: str) -> None:
    assert len(names.field_manager(node)) <= 128


def test_names_that_fit_are_not_changed() -> None:
    assert names.slice_name("n" * 224, "mock0") == f"mock-accel.example.com-{'n' * 224}-mock0"
    assert names.pool_name("n" * 247, "mock0") == f"{'n' * 247}/mock0"
    assert names.node_label("n" * 63) == "n" * 63
    assert names.field_manager("n" * 105) == f"mock-accel.example.com-{'n' * 105}"
    assert names.event_name("claim", "ab12") == "claim.ab12"


def test_long_names_end_in_a_hash_and_stay_different() -> None:
    label = names.node_label("n" * 64)
    assert re.fullmatch(r"n{52}-[0-9a-f]{10}", label)
    assert label != names.node_label("n" * 65)
    assert names.slice_name("n" * 225, "mock0").endswith("-mock0")
    assert names.pool_name("n" * 253, "mock0") != names.pool_name("n" * 252 + "x", "mock0")


def test_pools_of_other_nodes() -> None:
    assert names.is_pool_of("node-1/mock0", "node-1")
    assert not names.is_pool_of("node-1/mock0", "node")
    assert not names.is_pool_of("node-1", "node-1")
    assert not names.is_pool_of(names.pool_name("n" * 253, "mock0"), "n" * 252 + "x")


@pytest.mark.parametrize("end", ["-", ".", "--", "-.-"])
def test_event_on_a_claim_whose_name_is_truncated_at_a_dash_or_dot(end: str) -> None:
    claim = "c" * (200 - len(end)) + end + "c" * 20
    name = names.event_name(claim, "0123456789abcdef")
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= 253


def test_names_of_nodes_in_topologies_are_never_truncated() -> None:
    """The libraries build the same names themselves, without truncation; a topology allows DNS labels only."""
    node, device = "n" * 63, "mock999-vf999"
    assert names.slice_name(node, device) == f"mock-accel.example.com-{node}-{device}"
    assert names.pool_name(node, device) == f"{node}/{device}"
    assert names.node_label(node) == node
    assert names.field_manager(node) == f"mock-accel.example.com-{node}"


@pytest.mark.parametrize("claim", ["c" * 199 + "-" + "c" * 20, "c" * 199 + ".c", "c" * 253])
def test_event_on_a_claim_with_a_long_name_is_accepted(api: FakeApiServer, claim: str) -> None:
    Reporter(Client(api.url), "node-1").failed("default", claim, "uid", "device mock9 is not there")
    api.wait_for("/api/v1/namespaces/default/events/ccc")


@pytest.mark.parametrize("length", [105, 106, 253])
def test_status_from_a_node_with_a_long_name_is_accepted(api: FakeApiServer, length: int) -> None:
    api.add_claim("one", [])
    claim = PreparedClaim("uid-one", "default", "one", (PreparedDevice("mock0"),))
    Reporter(Client(api.url), "n" * length).claims([claim], [PF])
    path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/one"
    api.wait_until(path, lambda item: [entry["device"] for entry in item["status"].get("devices", [])] == ["mock0"])
