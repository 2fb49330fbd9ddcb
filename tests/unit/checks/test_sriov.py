"""Virtual functions in sysfs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from dra_fakes.sysfs import SysfsTree
from support.topologies import CLUSTER

from mock_device.checks.nodes import sriov
from mock_device.checks.nodes.sriov import SriovDevice
from mock_device.checks.nodes.sysfs import CLASS_FOLDER

NODE = CLUSTER.nodes[0]
# Output of PROBE in a guest with one VF of mock0 enabled, without the devices of NUMA node 1.
RECORDED = """\
device\tmock0\t0000:11:00.0\t2\t1\t\tvirtfn0=0000:11:00.1
device\tmock0_vf0\t0000:11:00.1\t\t\t0000:11:00.0\t
device\tmock1\t0000:12:00.0\t0\t0\t\t
end
"""
MOCK0 = SriovDevice("mock0", "0000:11:00.0", 2, 1, "", {"virtfn0": "0000:11:00.1"})
MOCK0_VF0 = SriovDevice("mock0_vf0", "0000:11:00.1", None, None, "0000:11:00.0", {})
MOCK1 = SriovDevice("mock1", "0000:12:00.0", 0, 0, "", {})


def probe(root: Path, script: str) -> str:
    script = script.replace(CLASS_FOLDER, str(root / "class/mock-accel"))
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    tree = SysfsTree(tmp_path)
    folder = tree.add("mock0", "0000:11:00.0", total_vfs=2)
    (folder / "sriov_numvfs").write_text("1\n")
    tree.add("mock0_vf0", "0000:11:00.1", physfn="0000:11:00.0")
    (folder / "device/virtfn0").symlink_to("../0000:11:00.1")
    tree.add("mock1", "0000:12:00.0")
    return tree


def test_probe_prints_the_recorded_output(tree: SysfsTree) -> None:
    assert probe(tree.root, sriov.PROBE) == RECORDED
    assert sriov.parse("node1", RECORDED) == [MOCK0, MOCK0_VF0, MOCK1]


def test_all_enabled_vfs_are_disabled(tree: SysfsTree) -> None:
    assert probe(tree.root, sriov.restore_command({})) == "mock0\n"
    assert (tree.classes / "mock0/sriov_numvfs").read_text() == "0"
    assert (tree.classes / "mock1/sriov_numvfs").read_text() == "0\n"


def test_nothing_is_disabled_without_the_module(tmp_path: Path) -> None:
    assert probe(tmp_path, sriov.restore_command({})) == ""
    assert sriov.parse("node1", probe(tmp_path, sriov.PROBE)) == []


def test_command_prints_the_error(tmp_path: Path) -> None:
    """printf(1) prints the text of strerror(3), for /dev/full here as for a refused attribute."""
    command = sriov.command("mock0", "-1").replace(f"{CLASS_FOLDER}/mock0/sriov_numvfs", "/dev/full")
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert run.returncode
    assert "No space left on device" in run.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("device\tmock0", "node1: the list of VFs is incomplete: 'device\\tmock0'"),
        ("device\tmock0\nend\n", "node1: expected a device, found 'device\\tmock0'"),
        (
            "device\tm\t0\tx\t0\t\t\nend\n",
            "node1: expected a device, found 'device\\tm\\t0\\tx\\t0\\t\\t' "
            "(invalid literal for int() with base 10: 'x')",
        ),
    ],
)
def test_invalid_output_is_rejected(output: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        sriov.parse("node1", output)
    assert str(caught.value) == message


def shown(*more: SriovDevice) -> list[SriovDevice]:
    """All PFs of the node without VFs, with ``more`` devices replaced or added."""
    devices = {pf.name: SriovDevice(pf.name, pf.bdf, pf.total_vfs, 0, "", {}) for pf in NODE.pfs}
    return list((devices | {device.name: device for device in more}).values())


def test_expected_vfs_have_no_complaints() -> None:
    assert sriov.complaints(NODE, shown(), {}) == []
    assert sriov.complaints(NODE, shown(MOCK0, MOCK0_VF0), {"mock0": 1}) == []


PF, VF = "mock-cluster-node1 mock0 (0000:11:00.0)", "mock-cluster-node1 mock0_vf0 (0000:11:00.1)"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (shown(MOCK0), f"{VF}: /sys/class/mock-accel has no such device"),
        (shown(replace(MOCK0, total=7), MOCK0_VF0), f"{PF}: expected sriov_totalvfs 2, found 7"),
        (
            shown(replace(MOCK0, enabled=0, children={}), MOCK0_VF0),
            f"{PF}: expected sriov_numvfs 1, found 0; expected virtfn links virtfn0 to 0000:11:00.1, found none",
        ),
        (shown(MOCK0, replace(MOCK0_VF0, parent="")), f"{VF}: expected physfn 0000:11:00.0, found none"),
        (shown(MOCK0, replace(MOCK0_VF0, total=0)), f"{VF}: expected sriov_totalvfs none, found 0"),
        (
            shown(MOCK0, MOCK0_VF0, replace(MOCK0_VF0, name="mock0_vf1")),
            "mock-cluster-node1 mock0_vf1 is unexpected: it should not be enabled",
        ),
    ],
)
def test_wrong_vfs_are_reported(found: list[SriovDevice], message: str) -> None:
    assert sriov.complaints(NODE, found, {"mock0": 1}) == [message]
