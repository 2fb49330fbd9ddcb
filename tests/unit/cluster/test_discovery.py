"""Topologies discovered from nodes: the probe on recorded sysfs trees, and the topology that is written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sysfs_tree import make_tree
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import discovery
from mock_device.topology import Topology
from mock_device.topology.comparison import differences

NODE = CLUSTER.nodes[0].name
PF = "sys/devices/pci0000:10/0000:10:00.0/0000:11:00.0"
VF1 = "sys/devices/pci0000:10/0000:10:00.0/0000:11:00.2"


@pytest.fixture
def with_vfs(tmp_path: Path) -> Path:
    """A node with all VFs enabled."""
    return make_tree("node1-with-vfs", tmp_path)


def probe(tree: Path) -> str:
    """What the probe prints on a node with this ``/sys``."""
    command = ["sh", "-c", discovery.PROBE]
    return subprocess.run(
        command, env={"SYS": str(tree), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def on(tree: Path) -> Callable[[str, str], str]:
    return lambda node, command: probe(tree)


def discovered(tree: Path, folder: Path, node: str = NODE) -> Topology:
    path = folder / "found.yaml"
    path.write_text(discovery.discover("found", [node], on(tree)))
    return topology.load(path)


def test_discovered_topology_is_that_of_the_cluster(with_vfs: Path, tmp_path: Path) -> None:
    found = discovered(with_vfs, tmp_path)
    assert found.external
    assert differences(CLUSTER, found) == [f"{CLUSTER.nodes[1].name}: expected such a node, found none"]
    (node,) = found.nodes
    assert [numa.cpus for numa in node.numa_nodes] == [1, 1]
    assert [numa.memory for numa in node.numa_nodes] == [992868 << 10, 1030544 << 10]


def test_vfs_that_are_not_enabled_are_named(tmp_path: Path) -> None:
    tree = make_tree("node1", tmp_path)
    with pytest.raises(StepError) as caught:
        discovered(tree, tmp_path)
    assert str(caught.value).splitlines() == [
        f"{NODE}: {pf}: 2 of its 2 VFs are not enabled, so their values are not shown; use --enable-vfs"
        for pf in ("mock0", "mock3")
    ]


def test_vfs_are_enabled_for_a_moment(tmp_path: Path) -> None:
    trees = {"off": make_tree("node1", tmp_path / "off"), "on": make_tree("node1-with-vfs", tmp_path / "on")}
    state, commands = "off", []

    def run(_: str, command: str) -> str:
        nonlocal state
        if command == discovery.PROBE:
            return probe(trees[state])
        commands.append(command)
        state = "on" if "printf 2" in command else "off"
        return ""

    text = discovery.discover("found", [NODE], run, enable_vfs=True)
    assert "NODE1-NUMA1-VF1" in text
    counts: tuple[dict[str, int], ...] = ({"mock0": 2, "mock3": 2}, {"mock0": 0, "mock3": 0})
    assert commands == [discovery.vfs_command(numbers) for numbers in counts]


@pytest.mark.parametrize(
    ("before", "count", "printed", "after"),
    [
        ("0", 2, "mock0\n", "2"),
        ("2\n", 2, "", "2\n"),
        ("1", 2, "mock0\n", "2"),
        ("1", 0, "mock0\n", "0"),
        ("0", 0, "", "0"),
    ],
)
def test_number_of_vfs_is_changed_if_it_is_another(
    tmp_path: Path, before: str, count: int, printed: str, after: str
) -> None:
    file = tmp_path / "mock0/sriov_numvfs"
    file.parent.mkdir()
    file.write_text(before)
    script = discovery.vfs_command({"mock0": count}).replace("/sys/class/mock-accel", str(tmp_path))
    run = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert (run.stdout, file.read_text()) == (printed, after)


def test_vfs_are_disabled_before_another_number_is_enabled() -> None:
    """The kernel changes the number only from and to 0."""
    command = discovery.vfs_command({"mock0": 2})
    assert command.index("printf 0") < command.index("printf 2")


def test_vfs_are_disabled_again_when_they_cannot_be_read(tmp_path: Path) -> None:
    outputs = iter([probe(make_tree("node1", tmp_path)), "", "", ""])
    commands: list[str] = []

    def run(_: str, command: str) -> str:
        commands.append(command)
        return next(outputs)

    with pytest.raises(StepError, match=f"{NODE}: the list of its devices is incomplete: ''"):
        discovery.discover("found", [NODE], run, enable_vfs=True)
    assert "printf 0 >" in commands[-1]


def test_layout_that_no_guest_of_the_lab_has_can_be_written(with_vfs: Path, tmp_path: Path) -> None:
    """One card on the root bus with a device number, another one below a second PCIe root of the NUMA node."""
    output = "\n".join(
        [
            "numa\t0\t1024\t0-3,8",
            "pci\t0000:00:05.0\t0x0001\t0\tpci0000:00/0000:00:05.0",
            "pci\t0000:81:00.1\t0x0001\t0\tpci0000:80/0000:80:01.0/0000:81:00.1",
            "pci\t0000:81:00.0\t0x0001\t0\tpci0000:80/0000:80:01.0/0000:81:00.0",
            "accel\t0000:00:05.0\tmock0\ttrue\t1000\t0x00000001\t0\t0",
            'accel\t0000:81:00.0\tmock1\tA "B"\t1024\t0x00000001\t0\t0',
            "accel\t0000:81:00.1\tmock2\t12\t1048576\t0x0000000f\t0\t0",
            "end",
        ]
    )
    path = tmp_path / "found.yaml"
    path.write_text(discovery.discover("my cluster", ["n1.example.com"], lambda *_: output))
    (node,) = topology.load(path).nodes
    assert node.name == "n1.example.com"
    assert node.numa_nodes[0].cpus == 5
    assert [(f.name, f.bdf, f.uuid, f.memory, node.pcie_root_of(f)) for f in node.functions] == [
        ("mock0", "0000:00:05.0", "true", 1000, "pci0000:00"),
        ("mock1", "0000:81:00.0", 'A "B"', 1024, "pci0000:80"),
        ("mock2", "0000:81:00.1", "12", 1 << 20, "pci0000:80"),
    ]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (f"{PF}/numa_node", "-1", "0000:11:00.0: expected its NUMA node, the kernel knows none (numa_node -1)"),
        (f"{PF}/device", "0x0007", "0000:11:00.0: expected device ID 1 or 2, found 7"),
        (f"{PF}/mock-accel/mock0/uuid", None, "0000:11:00.0: /sys/class/mock-accel does not show it; is the kernel"),
    ],
)
def test_what_a_topology_cannot_express_is_named(
    with_vfs: Path, tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    path = with_vfs.parent / file
    path.unlink() if content is None else path.write_text(f"{content}\n")
    with pytest.raises(StepError, match=re.escape(f"{NODE}: {reason}")):
        discovered(with_vfs, tmp_path)


def test_missing_numa_node_is_named() -> None:
    with pytest.raises(StepError, match="node1: its NUMA nodes are 0, 2, expected 0, 1, … in order"):
        discovery.discover("found", ["node1"], lambda *_: "numa\t0\t1024\t0\nnuma\t2\t1024\t1\nend\n")


def test_device_with_another_name_than_its_place_gives_is_named(with_vfs: Path) -> None:
    output = probe(with_vfs).replace("\tmock3\t", "\tmock9\t")
    expected = "0000:21:00.0: expected it to be mock3 by PCI order, the kernel module calls it mock9; load the module"
    with pytest.raises(StepError, match=re.escape(f"{NODE}: {expected}")):
        discovery.discover("found", [NODE], lambda *_: output)


def test_device_in_another_pci_domain_is_named(with_vfs: Path) -> None:
    output = probe(with_vfs).replace("0000:11:00.0", "10000:11:00.0")
    with pytest.raises(StepError, match=f"{NODE}: 10000:11:00.0: expected it in PCI domain 0000, found pci0000:10"):
        discovery.discover("found", [NODE], lambda *_: output)


def test_all_nodes_are_named_that_have_problems() -> None:
    def run(node: str, _: str) -> str:
        if node == "node1":
            raise StepError("node1: no route to host")
        return "numa\tx\t1024\t0\nend\n"

    with pytest.raises(StepError) as caught:
        discovery.discover("found", ["node1", "node2"], run)
    assert re.fullmatch(
        r"node1: no route to host\nnode2: expected a device or NUMA node, found 'numa\\tx.*", str(caught.value)
    )


def test_differences_are_named(with_vfs: Path, tmp_path: Path) -> None:
    path = with_vfs.parent / f"{VF1}/mock-accel/mock0_vf1/memory_size"
    path.write_text("4294967296\n")
    found = discovered(with_vfs, tmp_path)
    assert f"{NODE} mock0_vf1 (0000:11:00.2): expected memory {2 << 30}, found {4 << 30}" in differences(CLUSTER, found)
    other = discovered(with_vfs, tmp_path, node="another")
    assert "another: unexpected node" in differences(CLUSTER, other)
