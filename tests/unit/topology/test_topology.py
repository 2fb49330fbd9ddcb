"""Topology files: their meaning, and the rejection of invalid ones."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from support.schema_check import objections

from mock_device import topology
from mock_device.lab.base.paths import PROJECT
from mock_device.topology import schema

GOOD = """\
nodes:
  - name: node1
    address: 192.168.122.211
    numa:
      - node: 0
        memory: 1G
        cpus: 1
        bus: 0x10
        slots:
          - functions:
              - {uuid: PF, memory: 16G, capabilities: [compute, encryption]}
              - {uuid: VF0, memory: 2G, vf: true}
              - {uuid: VF1, memory: 2G, vf: true}
          - functions:
              - {uuid: PF1, memory: 16G}
              - {uuid: PF2, memory: 512M}
      - node: 1
        memory: 1G
        cpus: 2
        bus: 0x20
        slots:
          - functions:
              - {uuid: PF3, memory: 16G}
"""


def load(tmp_path: Path, text: str) -> topology.Topology:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return topology.load(path)


@pytest.mark.parametrize(
    ("name", "nodes", "pfs", "vfs"),
    [
        ("dense", 1, 100, 0),
        ("no-sriov", 2, 12, 0),
        ("numa-cluster", 2, 12, 8),
        ("single-node", 1, 6, 4),
        ("three-nodes", 3, 18, 12),
    ],
)
def test_topologies_of_the_project_are_valid(name: str, nodes: int, pfs: int, vfs: int) -> None:
    found = topology.load(PROJECT / f"variables/topologies/{name}.yaml")
    functions = [function for node in found.nodes for function in node.functions]
    assert found.name == name
    assert len(found.nodes) == nodes
    assert sum(not function.is_vf for function in functions) == pfs
    assert sum(function.is_vf for function in functions) == vfs


def test_no_topology_is_missing_in_the_test_above() -> None:
    assert len(list((PROJECT / "variables/topologies").iterdir())) == 5


def test_default_topology_has_the_documented_devices() -> None:
    cluster = topology.load(PROJECT / "variables/topologies/numa-cluster.yaml")
    assert [node.name for node in cluster.nodes] == ["mock-cluster-node1", "mock-cluster-node2"]
    for node in cluster.nodes:
        assert [(f.bdf, f.name, f.numa_node) for f in node.functions if not f.is_vf] == [
            ("0000:11:00.0", "mock0", 0),
            ("0000:12:00.0", "mock1", 0),
            ("0000:12:00.1", "mock2", 0),
            ("0000:21:00.0", "mock3", 1),
            ("0000:22:00.0", "mock4", 1),
            ("0000:22:00.1", "mock5", 1),
        ]


def test_names_and_addresses_follow_from_the_place(tmp_path: Path) -> None:
    node = load(tmp_path, GOOD).node("node1")
    named = {function.name: function for function in node.functions}
    assert list(named) == ["mock0", "mock0_vf0", "mock0_vf1", "mock1", "mock2", "mock3"]
    assert named["mock0"].total_vfs == 2
    assert named["mock0"].memory == 16 << 30
    assert named["mock0"].capability_bits == 0b11
    assert (named["mock0_vf1"].parent, named["mock0_vf1"].bdf) == ("mock0", "0000:11:00.2")
    assert named["mock2"].memory == 512 << 20
    assert (named["mock3"].numa_node, named["mock3"].root_port, named["mock3"].multifunction) == (1, "rp21", False)
    assert (node.memory, node.cpus) == (2 << 30, 3)


def test_devices_of_a_cluster_are_known_by_node_and_name(tmp_path: Path) -> None:
    cluster = load(tmp_path, GOOD)
    names = ["mock0", "mock0_vf0", "mock0_vf1", "mock1", "mock2", "mock3"]
    assert [str(key) for key in cluster.devices] == [f"node1 {name}" for name in names]
    assert cluster.devices[topology.DeviceId("node1", "mock3")].uuid == "PF3"
    assert cluster.devices == cluster.nodes[0].devices


def test_error_of_an_unknown_node_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no node 'other' in topology t; it has node1"):
        load(tmp_path, GOOD).node("other")


# (old, new, line, reason): GOOD with ``old`` replaced by ``new`` is refused. The JSON schema finds these faults, too.
BAD_SHAPE = [
    ("uuid: PF3", "uuid: SEVENTEEN-BYTES-X", 23, "is not 1 to 16 bytes of printable ASCII"),
    ("memory: 512M", "memory: lots", 16, "expected a size such as 16G"),
    ("cpus: 2", "cores: 2", 19, "unknown key 'cores'"),
    ("        cpus: 2\n", "", 17, "key 'cpus' is missing"),
    ("address: 192.168.122.211", "address: 10.0.0.1", 3, "address must be in 192.168.122.0/24"),
    ("name: node1", "name: Node_1", 2, "not a DNS label"),
    ("[compute, encryption]", "[encryption]", 11, "always with compute"),
    ("{uuid: PF3, memory: 16G}", "{uuid: PF3, memory: 16G, function: 8}", 23, "number from 0 to 7"),
    ("memory: 512M", "memory: 9223372036854775808", 16, "at most 8388607T"),
    ("memory: 512M", "memory: ٣G", 16, "expected a size such as 16G"),
    ("cpus: 2", "cpus: 65", 19, "must be a number from 1 to 64"),
    ("bus: 0x20", "bus: 0x100", 20, "must be a number from 1 to 255"),
    ("memory: 512M", "memory: 512M, function: 99999999999999999999", 16, "number from 0 to 7"),
    ("cpus: 2", "cpus: 2\n        wired-to: true", 20, "NUMA node True does not exist"),
    ("[compute, encryption]", "[compute, {a: b}]", 11, "always with compute"),
    ("nodes:\n", "name: [a]\nnodes:\n", 1, "name must be text"),
    ("nodes:\n", "description: 5\nnodes:\n", 1, "description must be text"),
    ("name: node1", f"name: {'n' * 64}", 2, "not a DNS label"),
    ("uuid: PF3", "uuid: Gerät", 23, "is not 1 to 16 bytes of printable ASCII"),
    ("uuid: PF3", "uuid: 7", 23, "uuid must be text, found 7"),
    ("memory: 512M", "memory: 0", 16, "expected a size such as 16G"),
    ("vf: true", "vf: 'yes'", 12, "vf must be true or false, found 'yes'"),
    ("bus: 0x20", "bus: '0x20'", 20, "must be a number from 1 to 255, found '0x20'"),
    ("{uuid: PF3, memory: 16G}", "PF3", 22, "expected a mapping, found 'PF3'"),
    ("[compute, encryption]", "compute", 11, "capabilities must be a list of"),
]
# Faults that the schema cannot express: they depend on other keys, on the unit of a size, or are not YAML.
BAD_MEANING = [
    ("{uuid: PF2, memory: 512M}", "{uuid: PF2, memory: 512M, function: 0}", 16, "function at address '12:00.0'"),
    ("uuid: PF3", "uuid: PF1", 23, "UUID 'PF1' is already used in line 15"),
    ("{uuid: PF1, memory: 16G}", "{uuid: PF1, memory: 16G, vf: true}", 15, "VF without a PF"),
    ("- node: 1", "- node: 2", 17, "must be a number from 0 to 1"),
    ("cpus: 2", "cpus: 2\n        wired-to: 7", 20, "NUMA node 7 does not exist, there are 2"),
    ("bus: 0x20", "bus: 0x12", 20, "bus 0x12 is taken by line 8"),
    ("bus: 0x20", "bus: 0x08", 20, "must be above 0x10"),
    ("{uuid: PF3, memory: 16G}", "{uuid: PF3, memory: 16G, function: 1}", 22, "function 0 is missing"),
    ("{uuid: VF1, memory: 2G, vf: true}", "{uuid: VF1, memory: 2G, vf: true, function: 3}", 13, "without a gap"),
    ("nodes:\n", "nodes: [\n", 2, "not YAML"),
    ("cpus: 2", "cpus: 2\n        cpus: 3", 20, "not YAML: duplicate key 'cpus'"),
    ("address: 192.168.122.211", "address: 192.168.122.211\n    name: &a [*a]", 4, "not YAML: duplicate key 'name'"),
    ("memory: 512M", "memory: 99999999T", 16, "at most 8388607T"),
    ("memory: 512M", "memory: 8388608T", 16, "at most 8388607T"),
    ("memory: 512M", f"memory: '{'9' * 5000}'", 16, "at most 8388607T"),
    ("memory: 512M", f"memory: {'9' * 5000}", 16, "4300 digits"),
    ("memory: 512M", "memory: 2026-13-45", 16, "month must be in 1..12"),
    ("memory: 1G", "memory: 100T", 6, "memory of a NUMA node must be 64M to 256G"),
    ("memory: 1G", "memory: 4096", 6, "memory of a NUMA node must be 64M to 256G"),
    ("memory: 1G", "memory: 1073741825", 6, "in whole MiB"),
    ("cpus: 2", "cpus: 2\n        wired-to: 1.0", 20, "NUMA node 1.0 does not exist"),
    ("nodes:\n", "name: \x00\nnodes:\n", 1, "not YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "reason"), BAD_SHAPE + BAD_MEANING)
def test_bad_file_is_refused_with_line_and_reason(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(topology.TopologyError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    message = str(caught.value)
    assert reason in message
    assert message.startswith(f"{tmp_path}/t.yaml:{line}: "), message


@pytest.mark.parametrize(("old", "new", "reason"), [(old, new, reason) for old, new, _, reason in BAD_SHAPE])
def test_schema_refuses_bad_shapes_as_well(old: str, new: str, reason: str) -> None:
    assert objections(schema.PATH, GOOD.replace(old, new, 1)), reason


def test_guests_may_have_addresses_2_to_254() -> None:
    pattern = schema.mapping("node")["properties"]["address"]["pattern"]
    assert [last for last in range(300) if re.fullmatch(pattern, f"192.168.122.{last}")] == list(range(2, 255))


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("192.168.122.1", False),
        ("192.168.122.2", True),
        ("192.168.122.254", True),
        ("192.168.122.255", False),
        ("192.168.122.02", False),
        ("192.168.1221", False),
        ("::1", False),
    ],
)
def test_schema_and_loader_agree_on_addresses(tmp_path: Path, address: str, fits: bool) -> None:
    text = GOOD.replace("192.168.122.211", f"'{address}'")
    assert (objections(schema.PATH, text) == []) == fits
    expected = contextlib.nullcontext() if fits else pytest.raises(topology.TopologyError, match="address must be in")
    with expected:
        load(tmp_path, text)


def test_schema_has_the_capabilities_of_the_devices() -> None:
    assert schema.mapping("function")["properties"]["capabilities"]["items"]["enum"] == list(topology.CAPABILITIES)


@pytest.mark.parametrize("key", ["nodes", "numa", "slots", "functions"])
def test_empty_lists_are_refused(tmp_path: Path, key: str) -> None:
    lines = GOOD.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip(" -") == f"{key}:")
    text = "\n".join([*lines[:first], f"{lines[first]} []"])
    assert objections(schema.PATH, text)
    with pytest.raises(topology.TopologyError, match=f"t.yaml:{first + 1}: .*: {key} must be a list that is not empty"):
        load(tmp_path, text)


def test_too_many_functions_in_a_slot(tmp_path: Path) -> None:
    many = "\n".join(f"              - {{uuid: X{n}, memory: 1G}}" for n in range(9))
    text = GOOD.replace("              - {uuid: PF3, memory: 16G}", many)
    assert objections(schema.PATH, text)
    with pytest.raises(topology.TopologyError, match="a slot has functions 0 to 7, found one more: 8"):
        load(tmp_path, text)


def test_too_many_slots_of_a_bridge_are_rejected(tmp_path: Path) -> None:
    slots = "".join(f"          - functions:\n              - {{uuid: X{n}, memory: 1G}}\n" for n in range(33))
    text = GOOD.replace("          - functions:\n              - {uuid: PF3, memory: 16G}\n", slots)
    assert objections(schema.PATH, text)
    with pytest.raises(topology.TopologyError, match="t.yaml:21: node1 NUMA node 1: at most 32 slots, found 33"):
        load(tmp_path, text)


def test_too_many_cpus_are_rejected(tmp_path: Path) -> None:
    numa = "".join(f"      - {{node: {n}, memory: 64M, cpus: 64, bus: {n + 1}}}\n" for n in range(4))
    head = GOOD.partition("      - node: 0")[0]
    with pytest.raises(topology.TopologyError, match="t.yaml:4: node1: at most 255 CPUs, found 256"):
        load(tmp_path, head + numa)


def test_too_many_numa_nodes_are_rejected(tmp_path: Path) -> None:
    numa = "".join(f"      - {{node: {n}, memory: 64M, cpus: 1, bus: {n + 1}}}\n" for n in range(25))
    head = GOOD.partition("      - node: 0")[0]
    assert objections(schema.PATH, head + numa)
    with pytest.raises(topology.TopologyError, match="t.yaml:4: node1: at most 24 NUMA nodes, found 25"):
        load(tmp_path, head + numa)


def test_too_much_memory_is_rejected(tmp_path: Path) -> None:
    numa = "".join(f"      - {{node: {n}, memory: 256G, cpus: 1, bus: {n + 1}}}\n" for n in range(3))
    head = GOOD.partition("      - node: 0")[0]
    with pytest.raises(topology.TopologyError, match="t.yaml:4: node1: at most 512G of memory, found 768G"):
        load(tmp_path, head + numa)


def test_too_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(topology.TopologyError, match="t.yaml:1: not YAML"):
        load(tmp_path, "[" * 900)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(topology.TopologyError, match="nowhere.yaml: cannot be read"):
        topology.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16G", 16 << 30),
        ("2GiB", 2 << 30),
        ("4096", 4096),
        ("512M", 512 << 20),
        ("9223372036854775807", topology.MAX_BYTES),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert topology.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "00G", "-1", "1.5G", "16X", "G", "1 G", "0x10", "9223372036854775808", "8388608T"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="^expected "):
        topology.parse_size(text)


EXTERNAL = """\
external: true
nodes:
  - name: node1.example.com
    numa:
      - node: 0
        memory: 992868K
        cpus: 0
        bus: 0
        slots:
          - bus: 3
            device: 5
            functions:
              - {uuid: PF, memory: 16G}
          - bus: 0x81
            root: 0x80
            functions:
              - {uuid: PF1, memory: 16G}
"""


def test_external_topology_says_where_cards_are(tmp_path: Path) -> None:
    found = load(tmp_path, EXTERNAL)
    assert objections(schema.PATH, EXTERNAL) == []
    (node,) = found.nodes
    assert (found.external, node.name, node.address, node.memory) == (True, "node1.example.com", "", 992868 << 10)
    assert [(f.bdf, f.device, node.pcie_root_of(f)) for f in node.functions] == [
        ("0000:03:05.0", 5, "pci0000:00"),
        ("0000:81:00.0", 0, "pci0000:80"),
    ]


# (old, new, line, reason, whether the JSON schema finds it, too): EXTERNAL with ``old`` replaced by ``new`` is refused.
BAD_EXTERNAL = [
    ("external: true", "external: 'yes'", 1, "external must be true or false, found 'yes'", True),
    ("external: true\n", "", 2, "key 'address' is missing", True),
    ("          - bus: 3\n            device: 5\n", "          - device: 5\n", 10, "key 'bus' is missing", True),
    ("bus: 0x81", "bus: 2", 14, "slots must be in PCI order, expected one after 0000:03:05, found 0000:02:00", False),
    ("device: 5", "device: 32", 11, "device must be a number from 0 to 31", True),
    ("root: 0x80", "root: 0x100", 15, "root must be a number from 0 to 255", True),
    ("node1.example.com", "node1..example", 3, "is not a DNS label", True),
    ("name: node1", "address: 192.168.122.9\n    name: node1", 3, "unknown key 'address'", True),
]


@pytest.mark.parametrize(("old", "new", "line", "reason", "shape"), BAD_EXTERNAL)
def test_bad_external_topology_is_refused(
    tmp_path: Path, old: str, new: str, line: int, reason: str, shape: bool
) -> None:
    assert old in EXTERNAL
    text = EXTERNAL.replace(old, new, 1)
    with pytest.raises(topology.TopologyError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/t.yaml:{line}: "), caught.value
    assert reason in str(caught.value)
    assert bool(objections(schema.PATH, text)) == shape
