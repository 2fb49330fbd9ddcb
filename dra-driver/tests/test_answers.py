"""What the API server drops, rewrites or refuses of slices: the rest is published, nothing is written for ever."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from dra_fakes import strategy
from dra_fakes.apiserver import FakeApiServer
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import refusals, repeats
from mock_accel_dra.api import ApiError, Client
from mock_accel_dra.discovery import Device, scan
from mock_accel_dra.publisher import Publisher
from topology import Node

NODE = "mock-cluster-node1"
PREFIX = f"mock-accel.example.com-{NODE}-"
COUNTERS = f"{PREFIX}mock0-counters"


@pytest.fixture
def publisher(api: FakeApiServer, node: Node) -> Publisher:
    return Publisher(Client(api.url), node.name)


@pytest.fixture
def devices(plug: Callable[..., SysfsTree]) -> tuple[Device, ...]:
    """PFs only."""
    return scan(plug().root).devices


@pytest.fixture
def with_vfs(sysfs: SysfsTree) -> tuple[Device, ...]:
    """One PF with two VFs, and one without."""
    sysfs.add("mock0", "0000:11:00.0", total_vfs=2)
    for number in range(2):
        sysfs.add(f"mock0_vf{number}", f"0000:11:00.{number + 1}", physfn="0000:11:00.0")
    sysfs.add("mock1", "0000:12:00.0")
    return scan(sysfs.root).devices


def published(api: FakeApiServer) -> set[str]:
    """Names of all devices in complete pools, as the scheduler sees them."""
    pools: dict[str, list[dict[str, object]]] = {}
    for item in api.slices().values():
        pools.setdefault(item["spec"]["pool"]["name"], []).append(item["spec"])
    found = set()
    for specs in pools.values():
        assert len({spec["pool"]["generation"] for spec in specs}) == 1  # type: ignore[index]
        assert len(specs) == specs[0]["pool"]["resourceSliceCount"]  # type: ignore[index]
        found |= {device["name"] for spec in specs for device in spec.get("devices", [])}  # type: ignore[attr-defined]
    return found


def generations(api: FakeApiServer) -> dict[str, int]:
    return {name: item["spec"]["pool"]["generation"] for name, item in api.slices().items()}


@pytest.mark.parametrize("tebibytes", [1024, 2048, 1 << 20, 3 << 10])
def test_memory_that_the_api_server_writes_in_another_unit_is_written_once(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], tebibytes: int
) -> None:
    sized = [replace(device, memory=tebibytes << 40) for device in devices]
    publisher.publish(sized)
    for _ in range(3):
        assert publisher.publish(sized) == 0
    assert set(generations(api).values()) == {1}
    assert publisher.fields_changed == []


def test_a_quantity_in_other_words_is_no_difference(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    publisher.publish(devices)
    for path, item in list(api.objects.items()):
        for device in item.get("spec", {}).get("devices", []):
            device["capacity"]["memory"]["value"] = str(device["attributes"]["memory"]["int"])
            api.put(path, item)
    assert publisher.publish(devices) == 0


def test_dropped_taint_is_written_once_and_named(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], log: io.StringIO
) -> None:
    api.gates_off.add(strategy.DEVICE_TAINTS)
    sick = [replace(device, problem="NoAnswer") if device.name == "mock1" else device for device in devices]
    publisher.publish(sick)
    assert published(api) == {device.published_name for device in devices}
    for _ in range(3):
        assert publisher.publish(sick) == 0
    assert publisher.fields_changed == [(f"{PREFIX}mock1", "spec.devices[0].taints")]
    line = f'keeps a slice otherwise than written" slice="{PREFIX}mock1" fields=["spec.devices[0].taints"]'
    assert log.getvalue().count(line) == 1
    publisher.publish(devices)
    assert publisher.fields_changed == []


def test_what_somebody_changes_of_a_slice_that_came_back_otherwise_is_undone(
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


def test_any_field_that_comes_back_otherwise_is_written_once_and_named(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mutating webhook does it."""
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


def test_who_fights_with_somebody_writes_five_times_a_minute(
    publisher: Publisher,
    api: FakeApiServer,
    devices: tuple[Device, ...],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with an operator that puts its own value there after each of our writes."""
    now = [1000.0]
    monkeypatch.setattr(repeats.time, "monotonic", lambda: now[0])
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
    assert log.getvalue().count("Somebody else changes slices as often as they are written") == 1
    now[0] += 60
    assert publisher.publish(devices) == 1
    meddle()
    other = [replace(device, uuid="another") for device in devices]
    assert publisher.publish(other) == len(devices)  # what is to be published has changed


def test_without_counters_vfs_are_published_without_their_pf(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], log: io.StringIO
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs)
    assert published(api) == {"mock0-vf0", "mock0-vf1", "mock1"}
    before = generations(api)
    for _ in range(3):
        assert publisher.publish(with_vfs) == 0
    assert generations(api) == before
    assert publisher.fields_changed == [(COUNTERS, "spec.sharedCounters")]
    assert set(publisher.left_out) == {"mock0"}
    assert "keeps no counters" in publisher.left_out["mock0"]
    assert log.getvalue().count("The API server keeps no counters") == 1
    assert log.getvalue().count('"Device left out" device="mock0"') == 1


def test_without_counters_pf_and_vfs_are_never_in_one_complete_pool(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not for a moment: VFs are enabled while the PF is published."""
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish([device for device in with_vfs if not device.is_vf])
    assert published(api) == {"mock0", "mock1"}
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


def test_without_counters_a_pf_that_a_claim_has_stays_and_its_vfs_wait(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs, {"mock0"})
    assert published(api) == {"mock0", "mock1"}
    assert set(publisher.left_out) == {"mock0_vf0", "mock0_vf1"}
    publisher.publish(with_vfs)
    assert published(api) == {"mock0-vf0", "mock0-vf1", "mock1"}


def test_counters_are_tried_again_when_the_devices_change(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.gates_off.add(strategy.PARTITIONABLE_DEVICES)
    publisher.publish(with_vfs)
    api.gates_off.clear()
    publisher.publish([device for device in with_vfs if not device.is_vf])
    assert publisher.fields_changed == []
    publisher.publish(with_vfs)
    assert published(api) == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert COUNTERS in api.slices()
    assert publisher.left_out == {}


def test_device_with_a_value_beyond_the_limits_is_left_out_and_named(
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
    assert published(api) == {"mock2", "mock3"}
    assert publisher.left_out == {
        "mock0": "attribute capabilities: expected at most 64 bytes, found 68",
        "mock1": "attribute memory: expected a number below 2^63, found 9223372036854775808; "
        "capacity memory: expected a number below 2^63, found 8Ei",
    }
    assert len(api.writes()) == 2
    assert log.getvalue().count('"Device left out" device="mock0"') == 1
    (sysfs.classes / "mock0" / "capabilities").write_text("0x1\n")
    publisher.publish(scan(sysfs.root).devices)
    assert published(api) == {"mock0", "mock2", "mock3"}
    assert '"Device is not left out any more" device="mock0"' in log.getvalue()


@pytest.mark.parametrize("vf_is_bad", [False, True])
def test_bad_device_of_a_pool_does_not_keep_the_others_back(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...], vf_is_bad: bool
) -> None:
    name = "mock0_vf0" if vf_is_bad else "mock0"
    bad = [replace(device, uuid="U" * 65) if device.name == name else device for device in with_vfs]
    for _ in range(3):
        publisher.publish(bad)
    assert published(api) == {device.published_name for device in with_vfs if device.name != name}
    assert set(publisher.left_out) == {name}
    assert set(generations(api).values()) == {1}


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_refused_slice_is_left_out_and_not_tried_at_every_event(
    publisher: Publisher,
    api: FakeApiServer,
    with_vfs: tuple[Device, ...],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(refusals.time, "monotonic", lambda: now[0])
    api.refused = {"mock0-vf1": status, "mock1": status}
    publisher.publish(with_vfs)
    assert published(api) == {"mock0", "mock0-vf0"}
    assert set(publisher.left_out) == {"mock0_vf1", "mock1"}
    assert "is refused on purpose" in publisher.left_out["mock1"]
    before, writes = generations(api), len(api.writes())
    for _ in range(5):
        assert publisher.publish(with_vfs) == 0
    assert len(api.writes()) == writes
    for tries in range(1, 4):
        now[0] += 700
        publisher.publish(with_vfs)
        assert len(api.writes()) == writes + 2 * tries  # the two that are refused, and no others
    assert generations(api) == before
    assert log.getvalue().count('"Slice is refused"') == 2
    api.refused.clear()
    now[0] += 700
    publisher.publish(with_vfs)
    assert published(api) == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert publisher.left_out == {}


def test_refused_counters_are_counters_that_are_not_there(
    publisher: Publisher, api: FakeApiServer, with_vfs: tuple[Device, ...]
) -> None:
    api.refused = {"mock0-counters": 422}
    publisher.publish(with_vfs)
    assert published(api) == {"mock0-vf0", "mock0-vf1", "mock1"}


def test_driver_that_may_write_nothing_is_not_ready_and_deletes_nothing(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    publisher.publish(devices)
    api.refused = {PREFIX: 403}
    sick = [replace(device, problem="NoAnswer") for device in devices]
    for _ in range(3):
        with pytest.raises(ApiError, match="403"):
            publisher.publish(sick)
    assert len(api.slices()) == len(devices)


def test_error_of_one_slice_does_not_keep_the_others_back(
    publisher: Publisher, api: FakeApiServer, devices: tuple[Device, ...]
) -> None:
    """As when a webhook fails for it."""
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
    assert published(api) == {"mock0", "mock0-vf0", "mock0-vf1", "mock1"}
    assert publisher.publish(with_vfs) == 0


def test_retry_after_is_known(api: FakeApiServer) -> None:
    api.broken, api.retry_after = 429, 7
    with pytest.raises(ApiError) as caught:
        Client(api.url).get("/api/v1/nodes", {})
    assert caught.value.retry_after == 7
    api.retry_after = None
    with pytest.raises(ApiError) as caught:
        Client(api.url).get("/api/v1/nodes", {})
    assert caught.value.retry_after is None
