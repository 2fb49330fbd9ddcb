"""The publisher makes the API server's slices match the devices, with as few writes as possible."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dra_fakes.apiserver import SLICES, FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import ApiError, ApiUnreachableError, Client
from mock_accel_dra.discovery import scan
from mock_accel_dra.publisher import Publisher

from mock_device.topology import Node


def test_publishing_twice_writes_once(
    publisher: Publisher, api: FakeApiServer, plug: Callable[..., SysfsTree], node: Node
) -> None:
    devices = scan(plug().root).devices
    assert publisher.publish(devices) == 6
    assert len(api.slices()) == 6
    assert publisher.publish(devices) == 0
    assert len(api.writes()) == 6


def test_devices_come_and_go(publisher: Publisher, api: FakeApiServer, plug: Callable[..., SysfsTree]) -> None:
    sysfs = plug(vfs=True)
    publisher.publish(scan(sysfs.root).devices)
    assert len(api.slices()) == 12  # ten devices, and counters for two PFs
    sysfs.remove("mock5")
    sysfs.remove("mock3_vf0")
    publisher.publish(scan(sysfs.root).devices)
    slices = api.slices().values()
    assert len(slices) == 10
    generations = {
        item["spec"]["pool"]["name"].rpartition("/")[2]: item["spec"]["pool"]["generation"] for item in slices
    }
    assert generations == {"mock0": 1, "mock1": 1, "mock2": 1, "mock3": 2, "mock4": 1}


def test_slices_of_others_are_left_alone(publisher: Publisher, api: FakeApiServer) -> None:
    for name, driver, node in (
        ("a", "mock-accel.example.com", "other"),
        ("b", "other.example.com", "mock-cluster-node1"),
    ):
        spec = {"driver": driver, "nodeName": node, "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}
        api.put(f"{SLICES}/{name}", {"metadata": {"name": name}, "spec": spec})
    publisher.publish([])
    assert set(api.slices()) == {"a", "b"}


def test_a_restored_slice_has_the_uid_of_the_new_node(
    publisher: Publisher, api: FakeApiServer, plug: Callable[..., SysfsTree], node: Node
) -> None:
    devices = scan(plug().root).devices
    publisher.publish(devices)
    api.add_node(node.name, uid="reborn")
    for name in api.slices():
        api.remove(f"{SLICES}/{name}")
    publisher.publish(devices)
    owners = {item["metadata"]["ownerReferences"][0]["uid"] for item in api.slices().values()}
    assert owners == {"reborn"}


def test_an_error_names_request_and_reason(publisher: Publisher, api: FakeApiServer) -> None:
    api.broken = 403
    with pytest.raises(ApiError, match=r"GET /api/v1/nodes/mock-cluster-node1: 403: broken on purpose") as caught:
        publisher.publish([])
    assert caught.value.status == 403


def test_no_api_server(node: Node) -> None:
    with pytest.raises(ApiUnreachableError, match="ConnectionRefused"):
        Publisher(Client("http://127.0.0.1:1"), node.name).publish([])


def test_client_reconnects_after_the_server_closed_the_connection(api: FakeApiServer) -> None:
    client = Client(api.url)
    client.get("/api/v1/nodes", {})
    client._local.connection.sock.shutdown(2)
    assert client.get("/api/v1/nodes", {})["items"]
