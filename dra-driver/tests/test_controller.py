"""The controller's inventory, and slices of nodes that are gone."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable

import pytest
from dra_fakes.agents import until
from dra_fakes.apiserver import NODES, FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import Client
from mock_accel_dra.controller import Controller
from mock_accel_dra.discovery import scan
from mock_accel_dra.publisher import Publisher
from mock_accel_dra.settings import ControllerSettings

from mock_device.topology import Node

OTHER = "mock-cluster-node2"
_DEADLINE_SECONDS = 10.0


@pytest.fixture
def publish(api: FakeApiServer, plug: Callable[..., SysfsTree], node: Node) -> Callable[[], None]:
    """Function that publishes the devices of ``sysfs`` for two nodes."""
    api.add_node(OTHER, "other-uid")
    sysfs = plug()

    def publish() -> None:
        for name in (node.name, OTHER):
            Publisher(Client(api.url), name).publish(scan(sysfs.root).devices)

    return publish


def test_inventory_and_metrics(
    api: FakeApiServer, publish: Callable[[], None], sysfs: SysfsTree, log: io.StringIO
) -> None:
    publish()
    controller = Controller(ControllerSettings(), Client(api.url))
    controller.sync()
    assert '"Discovered 12 devices" nodes=2' in log.getvalue()
    metrics = controller._metrics.text().decode()
    assert 'mock_accel_devices{device_type="pf",node="mock-cluster-node2"} 6.0' in metrics
    sysfs.add("mock0_vf0", "0000:11:00.1", physfn="0000:11:00.0")
    publish()
    controller.sync()
    assert '"Device count changed: 12 -> 14"' in log.getvalue()
    metrics = controller._metrics.text().decode()
    assert 'mock_accel_devices{device_type="vf",node="mock-cluster-node2"} 1.0' in metrics


def test_slices_of_a_node_that_is_gone_are_deleted(api: FakeApiServer, publish: Callable[[], None]) -> None:
    publish()
    controller = Controller(ControllerSettings(), Client(api.url))
    controller.sync()
    api.remove(f"{NODES}/{OTHER}")
    controller.sync()
    assert len(api.slices()) == 6
    assert not [name for name in api.slices() if OTHER in name]
    assert "mock_accel_stale_slices_deleted_total 6.0" in controller._metrics.text().decode()


def test_inventory_follows_changes(
    api: FakeApiServer, publish: Callable[[], None], sysfs: SysfsTree, log: io.StringIO
) -> None:
    controller = Controller(ControllerSettings(resync_interval=600, health_port=0), Client(api.url))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        until(controller.ready, "the first inventory")
        assert '"Discovered 0 devices"' in log.getvalue()
        publish()
        until(lambda: "-> 12" in log.getvalue(), "12 devices in the log")
        api.remove(f"{NODES}/{OTHER}")
        until(lambda: '"Device count changed: 12 -> 6"' in log.getvalue(), "6 devices in the log")
        # The last "Discovered" line is right even in a restored cluster, whose devices are plugged later.
        found = re.findall(r'"Discovered (\d+) devices"', log.getvalue())
        assert found[0] == "0"
        assert "12" in found
        assert found[-1] == "6"
    finally:
        controller.stop()
        thread.join(_DEADLINE_SECONDS)
    assert not thread.is_alive()


def test_api_errors_are_counted_and_retried(
    api: FakeApiServer, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr("mock_accel_dra.controller._RETRY_SECONDS", 0.05)
    api.broken = 500
    controller = Controller(ControllerSettings(health_port=0), Client(api.url))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        until(lambda: "Inventory failed" in log.getvalue(), "an error in the log")
        assert not controller.ready()
        api.broken = None
        until(controller.ready, "the first inventory")
    finally:
        controller.stop()
        thread.join(_DEADLINE_SECONDS)
    assert "mock_accel_api_errors_total 0.0" not in controller._metrics.text().decode()
