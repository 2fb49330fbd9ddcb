"""Devices that the API server refuses, or would refuse, are left out and reported; the others are published."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.api import ApiError, Client
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.publisher import Publisher

PREFIX = "mock-accel.example.com-mock-cluster-node1-"


def test_device_with_a_value_beyond_the_limits_is_left_out_and_reported(
    publisher: Publisher, api: FakeApiServer, sysfs: SysfsTree, log: io.StringIO
) -> None:
    for number in range(4):
        folder = sysfs.add(f"mock{number}", f"0000:1{number + 1}:00.0")
        if number == 0:
            (folder / "capabilities").write_text("0x3ff\n")
        elif number == 1:
            (folder / "memory_size").write_text(f"{1 << 63}\n")
    for _ in range(3):
        publisher.publish(scan(sysfs.root).devices)
    assert api.published() == {"mock2", "mock3"}
    assert publisher.left_out == {
        "mock0": "attribute capabilities: expected at most 64 bytes, found 68",
        "mock1": "attribute memory: expected a number below 2^63, found 9223372036854775808; "
        "capacity memory: expected a number below 2^63, found 8Ei",
    }
    assert len(api.writes()) == 2
    assert log.getvalue().count('"Device left out" device="mock0"') == 1
    (sysfs.classes / "mock0" / "capabilities").write_text("0x1\n")
    publisher.publish(scan(sysfs.root).devices)
    assert api.published() == {"mock0", "mock2", "mock3"}
    assert '"Device is published again" device="mock0"' in log.getvalue()


@pytest.mark.parametrize("vf_is_bad", [False, True])
def test_bad_device_does_not_block_the_others_of_its_pool(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], vf_is_bad: bool
) -> None:
    name = "mock0_vf0" if vf_is_bad else "mock0"
    bad = [replace(device, uuid="U" * 65) if device.name == name else device for device in with_vfs]
    for _ in range(3):
        publisher.publish(bad)
    assert api.published() == {device.published_name for device in with_vfs if device.name != name}
    assert set(publisher.left_out) == {name}
    assert set(api.generations().values()) == {1}


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_refused_slice_is_left_out_and_retried_with_back_off(
    publisher: Publisher,
    api: FakeApiServer,
    with_vfs: tuple[Device, ...],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("mock_accel_dra.refusals.time.monotonic", lambda: now[0])
    api.refused = {"mock0-vf1": status, "mock1": status}
    publisher.publish(with_vfs)
    assert api.published() == {"mock0", "mock0-vf0"}
    assert set(publisher.left_out) == {"mock0_vf1", "mock1"}
    assert "is refused on purpose" in publisher.left_out["mock1"]
    before, writes = api.generations(), len(api.writes())
    for _ in range(5):
        assert publisher.publish(with_vfs) == 0
    assert len(api.writes()) == writes
    for tries in range(1, 4):
        now[0] += 700
        publisher.publish(with_vfs)
        assert len(api.writes()) == writes + 2 * tries  # only the two refused slices
    assert api.generations() == before
    assert log.getvalue().count('"Slice is refused"') == 2
    assert log.getvalue().count('"Device left out"') == 2
    assert "is published again" not in log.getvalue()
    api.refused.clear()
    now[0] += 700
    publisher.publish(with_vfs)
    assert api.published() == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert publisher.left_out == {}


def test_refused_counters_count_as_dropped(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.refused = {"mock0-counters": 422}
    publisher.publish(with_vfs)
    assert api.published() == {"mock0-vf0", "mock0-vf1", "mock1"}


def test_driver_without_write_permission_is_not_ready_and_deletes_nothing(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    publisher.publish(devices)
    api.refused = {PREFIX: 403}
    sick = [replace(device, problem="NoAnswer") for device in devices]
    for _ in range(3):
        with pytest.raises(ApiError, match="403"):
            publisher.publish(sick)
    assert len(api.slices()) == len(devices)


def test_error_for_one_slice_does_not_block_the_others(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    """For example because a webhook fails for it."""
    api.refused = {"mock2": 500}
    with pytest.raises(ApiError, match="mock2 is refused"):
        publisher.publish(devices)
    assert len(api.slices()) == len(devices) - 1


@pytest.mark.parametrize("length", [63, 64, 106, 224, 253])
@pytest.mark.parametrize("part", ["n", "n.n", "n-n"])
def test_node_with_a_long_name(api: FakeApiServer, with_vfs: tuple[Device, ...], part: str, length: int) -> None:
    name = (part * length)[: length - 1] + "n"
    api.add_node(name)
    publisher = Publisher(Client(api.url), name)
    publisher.publish(with_vfs)
    assert api.published() == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert publisher.publish(with_vfs) == 0


def test_retry_after_is_parsed(api: FakeApiServer) -> None:
    api.broken, api.retry_after = 429, 7
    with pytest.raises(ApiError) as caught:
        Client(api.url).get("/api/v1/nodes", {})
    assert caught.value.retry_after == 7
    api.retry_after = None
    with pytest.raises(ApiError) as caught:
        Client(api.url).get("/api/v1/nodes", {})
    assert caught.value.retry_after is None
