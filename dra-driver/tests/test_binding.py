"""Devices are attached before a pod is bound: conditions in the claim's status."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import Client
from mock_accel_dra.binding import Attacher
from mock_accel_dra.discovery import scan
from mock_accel_dra.features import Feature
from mock_accel_dra.settings import AgentSettings

NODE = "mock-cluster-node1"
PATH = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/one"
ATTACHED, FAILED = "mock-accel.example.com/Attached", "mock-accel.example.com/AttachFailed"


def result(device: str = "mock0", node: str = NODE, **more: Any) -> dict[str, Any]:
    return {
        "request": "gpu",
        "driver": "mock-accel.example.com",
        "pool": f"{node}/{device}",
        "device": device,
        "bindingConditions": [ATTACHED],
        "bindingFailureConditions": [FAILED],
        **more,
    }


class Rig:
    """An attacher of a node with one device."""

    def __init__(self, sysfs: SysfsTree, api: FakeApiServer) -> None:
        self.sysfs = sysfs
        self.api = api
        self.failures = 0
        sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
        self.attacher = Attacher(Client(api.url), NODE, sysfs.root, self._failed, lambda: False)

    def _failed(self) -> None:
        self.failures += 1

    def look(self) -> None:
        self.attacher.look()

    def conditions(self, index: int = 0) -> dict[str, str]:
        """Status of each condition of a device of the claim."""
        devices = self.api.objects[PATH]["status"].get("devices") or []
        return {item["type"]: item["status"] for item in devices[index]["conditions"]} if devices else {}

    def patches(self) -> int:
        return self.api.requests.count(("PATCH", f"{PATH}/status"))


@pytest.fixture
def rig(sysfs: SysfsTree, node_less_api: FakeApiServer) -> Rig:
    return Rig(sysfs, node_less_api)


def test_a_healthy_device_is_attached_once(rig: Rig) -> None:
    rig.api.add_claim("one", [result(shareID="a")])
    rig.look()
    assert rig.conditions() == {ATTACHED: "True", FAILED: "False"}
    (status,) = rig.api.objects[PATH]["status"]["devices"]
    assert (status["shareID"], status["conditions"][0]["reason"]) == ("a", "Attached")
    assert status["conditions"][0]["lastTransitionTime"].endswith("Z")
    rig.look()
    assert (rig.patches(), rig.failures) == (1, 0)


@pytest.mark.parametrize(("health", "problem"), [("no-firmware", "NoFirmware"), ("hung", "Hung"), (None, "Unplugged")])
def test_a_device_with_a_problem_fails_and_is_marked_until_it_is_well(
    rig: Rig, health: str | None, problem: str
) -> None:
    if health is None:
        rig.sysfs.remove("mock0")
    else:
        rig.sysfs.write("mock0", "health", health)
    rig.api.add_claim("one", [result()])
    rig.look()
    assert rig.conditions() == {ATTACHED: "False", FAILED: "True"}
    (status,) = rig.api.objects[PATH]["status"]["devices"]
    assert status["conditions"][1]["reason"] == problem
    assert rig.failures == 1
    if health is None:
        return
    devices = scan(rig.sysfs.root).devices
    assert [device.detached for device in rig.attacher.marked(devices)] == [problem]
    well = [replace(device, problem="") for device in devices]
    assert [device.detached for device in rig.attacher.marked(well)] == [""]
    assert [device.detached for device in rig.attacher.marked(devices)] == [""]


def test_a_hot_device_is_attached(rig: Rig) -> None:
    rig.sysfs.write("mock0", "health", "hot")
    rig.api.add_claim("one", [result()])
    rig.look()
    assert rig.conditions()[ATTACHED] == "True"


@pytest.mark.parametrize(
    "results",
    [
        None,
        [result(node="other")],
        [{**result(), "bindingConditions": None}],
        [{**result(), "driver": "other.example.com"}],
    ],
)
def test_claims_that_ask_for_nothing_here_are_left_alone(rig: Rig, results: list[dict[str, Any]] | None) -> None:
    rig.api.add_claim("one", results)
    rig.look()
    assert rig.patches() == 0


def test_an_allocation_that_changes_meanwhile_is_not_reported_on(rig: Rig) -> None:
    rig.api.add_claim("one", [result()])

    def allocate_again(method: str, path: str) -> None:
        if method == "PATCH":
            rig.api.before = lambda method, path: None
            rig.api.add_claim("one", None)

    rig.api.before = allocate_again
    rig.look()
    assert rig.conditions() == {}


def test_a_new_allocation_is_attached_again(rig: Rig) -> None:
    rig.sysfs.write("mock0", "health", "no-firmware")
    rig.api.add_claim("one", [result()])
    rig.look()
    rig.sysfs.write("mock0", "health", "ok")
    rig.api.add_claim("one", [result()])  # the scheduler clears status.devices with the allocation
    rig.look()
    assert rig.conditions() == {ATTACHED: "True", FAILED: "False"}


def test_it_waits_for_changes_of_claims_and_repeats_after_errors(rig: Rig) -> None:
    stopping = threading.Event()
    rig.api.broken = 500
    thread = threading.Thread(target=rig.attacher.run, args=(stopping, 3600.0))
    thread.start()
    try:
        until(lambda: rig.api.requests, "the attacher asks the API server")
        rig.api.broken = None
        rig.api.add_claim("one", [result()])
        until(lambda: rig.conditions().get(ATTACHED) == "True", "the device is attached")
    finally:
        stopping.set()
        rig.attacher.wake()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def agent(settings: AgentSettings, api: FakeApiServer) -> Iterator[FakeApiServer]:
    with running(replace(settings, features=frozenset({Feature.BINDING_CONDITIONS})), api):
        yield api


def test_the_conditions_stay_when_the_claim_is_prepared(agent: FakeApiServer, settings: AgentSettings) -> None:
    """A second pod of the claim needs them, too."""
    agent.add_claim("one", [result("mock1", settings.node_name)])
    done = lambda item: bool(item["status"].get("devices"))  # noqa: E731
    agent.wait_until(PATH, done, 20)
    with FakeKubelet(settings.service_socket) as kubelet:
        assert not kubelet.prepare([("default", "one", "uid-one")])["uid-one"].error
        ready = lambda item: len(item["status"]["devices"][0]["conditions"]) == 3  # noqa: E731
        agent.wait_until(PATH, ready, 20)
        before = agent.requests.count(("PATCH", f"{PATH}/status"))
        kubelet.prepare([("default", "one", "uid-one")])
        assert agent.requests.count(("PATCH", f"{PATH}/status")) == before
