"""A running node agent shows the health of devices and recovers them: real sockets, real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dra_fakes.agents import running, until
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.kubelet import FakeKubelet
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import discovery, recovery
from mock_accel_dra.agent import NodeAgent
from mock_accel_dra.rpc import HEALTH_SERVICES
from mock_accel_dra.settings import AgentSettings

from mock_device.topology import Node

CLAIM = ("default", "pair", "uid-pair")
PATH = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/pair"


@pytest.fixture
def place(settings: AgentSettings, api: FakeApiServer, sysfs: SysfsTree, node: Node) -> AgentSettings:
    """A node with the device mock9, which runs jobs, and a claim that has it."""
    sysfs.add("mock9", "0000:19:00.0", window=1 << 20)
    pool = f"{node.name}/mock9"
    api.add_claim("pair", [{"request": "r", "driver": "mock-accel.example.com", "pool": pool, "device": "mock9"}])
    return replace(settings, reset_after=0.5)


@pytest.fixture
def agent(place: AgentSettings, api: FakeApiServer) -> Iterator[NodeAgent]:
    with running(place, api) as program:
        with FakeKubelet(place.service_socket) as kubelet:
            assert not kubelet.prepare([CLAIM])["uid-pair"].error
        yield program


def taints(api: FakeApiServer) -> list[str]:
    slices = [item["spec"] for item in api.slices().values()]
    devices = [device for spec in slices for device in spec.get("devices") or [] if device["name"] == "mock9"]
    return [taint["value"] for device in devices for taint in device.get("taints") or []]


def events(api: FakeApiServer) -> dict[tuple[str, str], str]:
    """Messages of events by kind of their object and reason."""
    found = [dict(item) for path, item in list(api.objects.items()) if "/events/" in path]
    return {(item["involvedObject"]["kind"], item["reason"]): item["message"] for item in found}


def ready(item: dict[str, Any]) -> tuple[str, str]:
    for device in item["status"].get("devices", []):
        for condition in device["conditions"]:
            return condition["reason"], condition["message"]
    return "", ""


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("service", HEALTH_SERVICES)
def test_kubelets_of_all_versions_get_the_health(sysfs: SysfsTree, place: AgentSettings, service: str) -> None:
    with FakeKubelet(place.service_socket) as kubelet:
        reports = (
            {item.device.device_name: (item.health, item.message) for item in report.devices}
            for report in kubelet.watch_health(service)
        )
        assert next(reports)["mock9"] == (1, "")
        sysfs.write("mock9", "health", "hot")
        changed = next(report["mock9"] for report in reports if report["mock9"][0] != 1)
    assert changed[0] == 2
    assert "temperature" in changed[1]


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("word", "problem", "message"),
    [("hot", "Hot", "the temperature of the device"), ("no-firmware", "NoFirmware", "the device has no firmware")],
)
def test_problem_is_seen_everywhere_and_gone_again(
    sysfs: SysfsTree, api: FakeApiServer, place: AgentSettings, word: str, problem: str, message: str
) -> None:
    with FakeKubelet(place.service_socket) as kubelet:
        stream = kubelet.watch_health()

        def health(healthy: bool) -> str:
            """Message of the first report in which the device has this health."""
            for report in stream:
                for item in report.devices:
                    if item.device.device_name == "mock9" and (item.health == 1) == healthy:
                        return str(item.message)
            raise AssertionError("the stream ended")

        assert health(True) == ""
        sysfs.write("mock9", "health", word)
        assert message in health(False)
        until(lambda: taints(api) == [problem], "a taint on mock9")
        api.wait_until(PATH, lambda item: ready(item)[0] == problem and message in ready(item)[1])
        until(
            lambda: {("ResourceClaim", "DeviceUnhealthy"), ("Node", "DeviceUnhealthy")} <= events(api).keys(), "events"
        )
        assert (
            f"device mock9 (UUID-mock9 at 0000:19:00.0): {problem}: {message}" in events(api)["Node", "DeviceUnhealthy"]
        )
        sysfs.write("mock9", "health", "ok")
        assert health(True) == ""
        stream.cancel()
    until(lambda: taints(api) == [], "no taint on mock9")
    api.wait_until(PATH, lambda item: ready(item)[0] == "Prepared")
    until(lambda: ("ResourceClaim", "DeviceHealthy") in events(api), "an event")
    assert f"healthy again, was {problem}" in events(api)["ResourceClaim", "DeviceHealthy"]


def test_fatal_error_is_ended_by_a_reset(
    sysfs: SysfsTree, api: FakeApiServer, agent: NodeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, was_reset = discovery.set_attribute, threading.Event()

    def as_the_module_does(root: Path, name: str, attribute: str, text: str) -> None:
        write(root, name, attribute, text)
        if attribute == "reset":
            sysfs.set_status(name, 0)
            sysfs.write(name, "health", "ok")
            was_reset.set()

    monkeypatch.setattr(discovery, "set_attribute", as_the_module_does)
    sysfs.write("mock9", "health", "fatal")
    until(lambda: taints(api) == ["FatalError"], "a taint on mock9")
    assert was_reset.wait(20)
    until(lambda: taints(api) == [], "no taint on mock9")
    until(lambda: ("ResourceClaim", "DeviceReset") in events(api), "an event")
    assert "reset by the driver because of FatalError" in events(api)["ResourceClaim", "DeviceReset"]
    until(lambda: sysfs.status("mock9") == 1, "the register that the reset cleared is repaired")
    assert agent.device_resets() == {("mock9", "ok"): 1}


def test_a_reset_that_does_not_help(
    sysfs: SysfsTree, api: FakeApiServer, agent: NodeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_LIMIT_SECONDS", 0.5)
    sysfs.write("mock9", "health", "hung")
    until(lambda: ("Node", "DeviceResetFailed") in events(api), "an event")
    assert "a reset did not end Hung: a job did not end in time" in events(api)["Node", "DeviceResetFailed"]
    assert taints(api) == ["Hung"]
    assert agent.device_problems() == {"mock9": "Hung"}
    assert agent.device_resets() == {("mock9", "error"): 1}


def test_a_hung_job_is_an_event(sysfs: SysfsTree, api: FakeApiServer, agent: NodeAgent) -> None:
    """The kernel module has reset the device before anything could see it hang."""
    sysfs.write("mock9", "hangs", "1")
    until(lambda: ("ResourceClaim", "DeviceHung") in events(api), "an event")
    assert agent.device_figures()["mock9"].counters["hangs"] == 1
