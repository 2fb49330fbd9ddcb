"""Slices with fields that the API server drops or rewrites are written once, and the fields are reported."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from dra_fakes import strategy
from dra_fakes.apiserver import FakeApiServer
from mock_accel_dra.discovery import Device
from mock_accel_dra.publisher import Publisher

NODE = "mock-cluster-node1"
PREFIX = f"mock-accel.example.com-{NODE}-"
COUNTERS = f"{PREFIX}mock0-counters"


@pytest.mark.parametrize("tebibytes", [1024, 2048, 1 << 20, 3 << 10])
def test_a_quantity_in_another_unit_is_written_once(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], tebibytes: int
) -> None:
    sized = [replace(device, memory=tebibytes << 40) for device in devices]
    publisher.publish(sized)
    for _ in range(3):
        assert publisher.publish(sized) == 0
    assert set(api.generations().values()) == {1}
    assert publisher.fields_changed == []


def test_equal_quantities_in_different_notation_are_no_difference(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    publisher.publish(devices)
    for path, item in list(api.objects.items()):
        for device in item.get("spec", {}).get("devices", []):
            device["capacity"]["memory"]["value"] = str(device["attributes"]["memory"]["int"])
            api.put(path, item)
    assert publisher.publish(devices) == 0


def test_a_dropped_taint_is_written_once_and_reported(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], log: io.StringIO
) -> None:
    api.gates_off.add(strategy.DEVICE_TAINTS)
    sick = [replace(device, problem="NoAnswer") if device.name == "mock1" else device for device in devices]
    publisher.publish(sick)
    assert api.published() == {device.published_name for device in devices}
    for _ in range(3):
        assert publisher.publish(sick) == 0
    assert publisher.fields_changed == [(f"{PREFIX}mock1", "spec.devices[0].taints")]
    line = f'changed a slice that was written" slice="{PREFIX}mock1" fields=["spec.devices[0].taints"]'
    assert log.getvalue().count(line) == 1
    publisher.publish(devices)
    assert publisher.fields_changed == []


def test_edits_of_a_slice_with_dropped_fields_are_reverted(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    api.gates_off.add(strategy.DEVICE_TAINTS)
    sick = [replace(device, problem="NoAnswer") for device in devices]
    publisher.publish(sick)
    path = f"/apis/resource.k8s.io/v1/resourceslices/{PREFIX}mock1"
    meddled = api.objects[path]
    meddled["spec"]["devices"][0]["attributes"]["uuid"]["string"] = "another"
    api.put(path, meddled)
    assert publisher.publish(sick) == 1
    assert api.slices()[f"{PREFIX}mock1"]["spec"]["devices"][0]["attributes"]["uuid"]["string"] != "another"
    assert publisher.publish(sick) == 0


def test_any_rewritten_field_is_written_once_and_reported(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a mutating webhook."""
    admitted = strategy.admitted

    def mutating(*arguments: object) -> strategy.Object:
        stored = admitted(*arguments)  # type: ignore[arg-type]
        stored["spec"]["nodeAllocatable"] = "a field of the future"
        stored["spec"]["devices"][0]["attributes"]["uuid"] = {"string": "theirs"}
        del stored["metadata"]["labels"]["driver"]
        return stored

    monkeypatch.setattr(strategy, "admitted", mutating)
    publisher.publish(devices[:1])
    for _ in range(3):
        assert publisher.publish(devices[:1]) == 0
    assert publisher.fields_changed == [
        (f"{PREFIX}mock0", "metadata.labels.driver"),
        (f"{PREFIX}mock0", "spec.devices[0].attributes.uuid.string"),
        (f"{PREFIX}mock0", "spec.nodeAllocatable"),
    ]


def test_writes_against_another_client_are_limited_to_five_a_minute(
    publisher: Publisher,
    api: FakeApiServer,
    devices: tuple[Device, ...],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator that sets its own value after each of our writes."""
    now = [1000.0]
    monkeypatch.setattr("mock_accel_dra.repeats.time.monotonic", lambda: now[0])
    path = f"/apis/resource.k8s.io/v1/resourceslices/{PREFIX}mock1"

    def meddle() -> None:
        item = api.objects[path]
        item["spec"]["devices"][0]["attributes"]["uuid"]["string"] = "theirs"
        api.put(path, item)

    written = 0
    for _ in range(20):
        now[0] += 0.25
        written += publisher.publish(devices)
        meddle()
    assert written == len(devices) + 4
    assert log.getvalue().count("Another client keeps changing slices") == 1
    now[0] += 60
    assert publisher.publish(devices) == 1
    meddle()
    other = [replace(device, uuid="another") for device in devices]
    assert publisher.publish(other) == len(devices)  # the wanted content has changed


def test_without_counters_vfs_are_published_without_their_pf(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], log: io.StringIO
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs)
    assert api.published() == {"mock0-vf0", "mock0-vf1", "mock1"}
    before = api.generations()
    for _ in range(3):
        assert publisher.publish(with_vfs) == 0
    assert api.generations() == before
    assert publisher.fields_changed == [(COUNTERS, "spec.sharedCounters")]
    assert set(publisher.left_out) == {"mock0"}
    assert "drops counters" in publisher.left_out["mock0"]
    assert log.getvalue().count("The API server drops counters") == 1
    assert log.getvalue().count('"Device left out" device="mock0"') == 1


def test_without_counters_pf_and_vfs_are_never_in_one_complete_pool(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a moment, when VFs are enabled while the PF is published."""
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish([device for device in with_vfs if not device.is_vf])
    assert api.published() == {"mock0", "mock1"}
    answer = api.answer
    seen = []

    def watched(*arguments: object) -> tuple[int, strategy.Object]:
        result = answer(*arguments)  # type: ignore[arg-type]
        pool = [item["spec"] for item in api.slices().values() if item["spec"]["pool"]["name"] == f"{NODE}/mock0"]
        newest = max((spec["pool"]["generation"] for spec in pool), default=0)
        latest = [spec for spec in pool if spec["pool"]["generation"] == newest]
        if latest and len(latest) == latest[0]["pool"]["resourceSliceCount"]:
            seen.append({device["name"] for spec in latest for device in spec.get("devices", [])})
        return result

    monkeypatch.setattr(api, "answer", watched)
    publisher.publish(with_vfs)
    assert seen[-1] == {"mock0-vf0", "mock0-vf1"}
    assert all(names in ({"mock0"}, {"mock0-vf0", "mock0-vf1"}) for names in seen)


def test_without_counters_an_allocated_pf_stays_and_its_vfs_wait(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs, {"mock0"})
    assert api.published() == {"mock0", "mock1"}
    assert set(publisher.left_out) == {"mock0_vf0", "mock0_vf1"}
    publisher.publish(with_vfs)
    assert api.published() == {"mock0-vf0", "mock0-vf1", "mock1"}


def test_counters_are_tried_again_when_the_devices_change(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs)
    api.gates_off.clear()
    publisher.publish([device for device in with_vfs if not device.is_vf])
    assert publisher.fields_changed == []
    publisher.publish(with_vfs)
    assert api.published() == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert COUNTERS in api.slices()
    assert publisher.left_out == {}
