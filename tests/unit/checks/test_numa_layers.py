"""Which layer is blamed if a device is not on the topology's NUMA node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.checks.layers import numa_layers
from mock_device.checks.layers.numa_layers import PCI_BUS, SLICES, SYSFS, Layer, Sighting, judge
from mock_device.checks.layers.verdict import Verdict
from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices, PciFunction
from mock_device.checks.objects.slices import STANDARD_NUMA_NODE, PublishedDevice, Value
from mock_device.topology import DeviceId

NODE = "mock-cluster-node1"
NUMA_NODE = "mock-accel.example.com/numaNode"
RIGHT = Verdict((), ())
POSITIONS = {PCI_BUS: 0, SYSFS: 1, SLICES: 2}


def publish(node: str, function: topology.Function, slice_name: str = "s") -> PublishedDevice:
    name = function.name.replace("_", "-")
    attributes: dict[str, Value] = {
        "mock-accel.example.com/pciAddress": function.bdf,
        NUMA_NODE: function.numa_node,
        STANDARD_NUMA_NODE: function.numa_node,
    }
    return PublishedDevice(node, f"{node}/{name}", name, function.name, slice_name, attributes)


def layers(*vfs: str) -> list[Layer]:
    """All layers of a cluster that agrees with its topology, with ``vfs`` enabled on every node."""
    found, published = [], []
    for node in CLUSTER.nodes:
        enabled = [f for f in node.functions if not f.is_vf or f.name in vfs]
        pci = (PciFunction(f.bdf, 1 + f.is_vf, f.numa_node) for f in enabled)
        accelerators = (Accelerator(f.name, f.uuid, f.memory, f.numa_node, 1, 0, f.bdf) for f in enabled)
        found.append(NodeDevices(node.name, tuple(pci), tuple(accelerators)))
        published += [publish(node.name, f) for f in enabled]
    return [numa_layers.pci_bus(CLUSTER, found), numa_layers.sysfs(found), numa_layers.slices(published)]


def show(layer: Layer, name: str, *sightings: Sighting) -> Layer:
    """``layer`` in which device ``name`` of the first node has these sightings, or is missing without any."""
    others = {key: value for key, value in layer.sightings.items() if key != DeviceId(NODE, name)}
    return replace(layer, sightings=others | ({DeviceId(NODE, name): sightings} if sightings else {}))


def on(numa_node: int | None, bdf: str = "0000:21:00.0") -> Sighting:
    """``mock3``, which belongs on NUMA node 1."""
    return Sighting(numa_node, bdf)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_layers_of_a_healthy_cluster_pass(count: int) -> None:
    good = layers("mock0_vf0")[:count]
    # PFs of two nodes, plus the enabled VF of each.
    assert len(good[-1].sightings) == 14
    assert judge(CLUSTER, good) == RIGHT


MOCK3 = "mock-cluster-node1 mock3 (0000:21:00.0): expected NUMA node 1 by topology numa-cluster"


@pytest.mark.parametrize(
    ("title", "sightings", "messages"),
    [
        (PCI_BUS, [on(0)], [f"{MOCK3}, guest PCI bus says 0"]),
        (PCI_BUS, [], [f"{MOCK3}, guest PCI bus has no such device"]),
        (SYSFS, [on(-1)], [f"{MOCK3}, sysfs says -1"]),
        (SYSFS, [], [f"{MOCK3}, sysfs has no such device"]),
        (
            SYSFS,
            [on(0, "0000:12:00.0")],
            [
                "mock-cluster-node1 mock3: expected PCI address 0000:21:00.0 by topology numa-cluster, "
                "sysfs says 0000:12:00.0",
                f"{MOCK3}, sysfs says 0",
            ],
        ),
        (SLICES, [replace(on(0), where="a"), replace(on(0), where="b")], [f"{MOCK3}, ResourceSlice says 0"]),
        (
            SLICES,
            [replace(on(1), where="a"), replace(on(None), where="b")],
            [f"{MOCK3}, ResourceSlice says nothing (attribute b)"],
        ),
        (
            SLICES,
            [replace(on(0), where="a"), replace(on(None), where="b")],
            [f"{MOCK3}, ResourceSlice says 0 (attribute a)", f"{MOCK3}, ResourceSlice says nothing (attribute b)"],
        ),
    ],
)
def test_first_wrong_layer_is_blamed(title: str, sightings: list[Sighting], messages: list[str]) -> None:
    position = POSITIONS[title]
    *before, last = layers()[: position + 1]
    assert judge(CLUSTER, [*before, show(last, "mock3", *sightings)]) == Verdict(tuple(messages), ())


@pytest.mark.parametrize(("first", "said"), [(PCI_BUS, "guest PCI bus says 0"), (SYSFS, "sysfs says 0")])
def test_layer_after_the_wrong_one_is_excused(first: str, said: str) -> None:
    found = layers()
    for position in range(POSITIONS[first], 3):
        found[position] = show(found[position], "mock3", on(0))
    assert judge(CLUSTER, found) == Verdict((), (f"{MOCK3}, {said}",))


def test_layer_is_blamed_for_one_device_and_excused_for_another() -> None:
    bus, sysfs, _ = layers()
    bus = show(bus, "mock3", on(0))
    sysfs = show(show(sysfs, "mock3", on(0)), "mock1", on(1, "0000:12:00.0"))
    mock1 = "mock-cluster-node1 mock1 (0000:12:00.0): expected NUMA node 0 by topology numa-cluster, sysfs says 1"
    assert judge(CLUSTER, [bus, sysfs]) == Verdict((mock1,), (f"{MOCK3}, guest PCI bus says 0",))


def test_right_layer_after_a_wrong_one_passes() -> None:
    bus, sysfs, _ = layers()
    assert judge(CLUSTER, [show(bus, "mock3", on(0)), sysfs]) == RIGHT


VF = "mock-cluster-node1 mock0_vf0"


@pytest.mark.parametrize(
    ("title", "enabled", "message"),
    [
        (PCI_BUS, ["mock0_vf0"], None),
        (SYSFS, ["mock0_vf0"], None),
        (SLICES, ["mock0_vf0"], "ResourceSlice has no such device"),
    ],
)
def test_missing_vf_is_blamed_only_where_required(title: str, enabled: list[str], message: str | None) -> None:
    """Sysfs has the enabled VFs; only these are required."""
    *before, last = layers(*enabled)[: POSITIONS[title] + 1]
    expected = f"{VF} (0000:11:00.1): expected NUMA node 0 by topology numa-cluster, {message}"
    assert judge(CLUSTER, [*before, show(last, "mock0_vf0")]) == Verdict((expected,) if message else (), ())


def test_slice_of_a_disabled_vf_is_blamed() -> None:
    """Without the kernel module a VF may be on the PCI bus."""
    _, sysfs, _ = layers()
    bus, _, slices = layers("mock0_vf0")
    messages = [
        f"{node.name} mock0_vf0: ResourceSlice shows a device that sysfs does not have" for node in CLUSTER.nodes
    ]
    assert judge(CLUSTER, [bus, sysfs, slices]) == Verdict(tuple(messages), ())


def test_unknown_device_is_blamed_on_its_first_layer() -> None:
    bus, sysfs, slices = layers()
    stranger = PciFunction("0000:33:00.0", 1, 0)
    extra = numa_layers.pci_bus(CLUSTER, [NodeDevices(NODE, (stranger,), ())])
    bus = replace(bus, sightings={**bus.sightings, **extra.sightings})
    sysfs = show(sysfs, "mock6", on(0, stranger.bdf))
    slices = show(slices, "mock6", on(0, stranger.bdf))

    def says(name: str, title: str) -> str:
        return f"mock-cluster-node1 {name}: {title} shows a device that topology numa-cluster does not have"

    assert judge(CLUSTER, [bus]) == Verdict((says(stranger.bdf, PCI_BUS),), ())
    assert judge(CLUSTER, [bus, sysfs]) == Verdict((), (says("mock6", SYSFS),))
    assert judge(CLUSTER, [bus, sysfs, slices]) == Verdict((), (says("mock6", SLICES),))
    assert judge(CLUSTER, [layers()[0], sysfs]) == Verdict((says("mock6", SYSFS),), ())


def test_device_published_twice_is_blamed() -> None:
    bus, sysfs, _ = layers()
    published = [publish(node.name, f) for node in CLUSTER.nodes for f in node.functions if not f.is_vf]
    published.append(publish(NODE, CLUSTER.node(NODE).functions[0], "stale"))
    message = (
        "mock-cluster-node1 mock0 (published again in stale): ResourceSlice shows a device that "
        "topology numa-cluster does not have"
    )
    assert judge(CLUSTER, [bus, sysfs, numa_layers.slices(published)]) == Verdict((message,), ())


@pytest.mark.parametrize("value", ["0", None])
def test_invalid_numa_node_is_none(value: str | None) -> None:
    device = publish(NODE, CLUSTER.node(NODE).functions[0])
    device = replace(device, attributes={**device.attributes, NUMA_NODE: value})
    assert numa_layers.slices([device]).sightings == {
        (NODE, "mock0"): (
            Sighting(None, "0000:11:00.0", "mock-accel.example.com/numaNode"),
            Sighting(0, "0000:11:00.0", "resource.kubernetes.io/numaNode"),
        )
    }
