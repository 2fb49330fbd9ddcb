"""The inventory remembers devices that stop responding or are unplugged while a claim has them."""

from __future__ import annotations

import io

from dra_fakes.sysfs import SysfsTree
from mock_accel_dra.discovery import scan
from mock_accel_dra.inventory import Inventory
from mock_accel_dra.problems import HOT, HUNG, NO_ANSWER, UNPLUGGED


def kill(sysfs: SysfsTree, name: str) -> str:
    """Make ``name`` unreadable, like a device whose server died. Returns its UUID."""
    path = sysfs.classes / name / "uuid"
    uuid = path.read_text().strip()
    path.unlink()
    return uuid


def problems(inventory: Inventory, sysfs: SysfsTree, *prepared: str) -> dict[str, str]:
    return {device.name: device.problem for device in inventory.update(scan(sysfs.root), set(prepared))}


def test_a_device_that_does_not_answer_keeps_its_last_values(sysfs: SysfsTree, log: io.StringIO) -> None:
    inventory = Inventory()
    sysfs.add("mock0", "0000:11:00.0")
    sysfs.add("mock1", "0000:12:00.0")
    assert problems(inventory, sysfs) == {"mock0": "", "mock1": ""}
    uuid = kill(sysfs, "mock1")
    assert problems(inventory, sysfs) == {"mock0": "", "mock1": NO_ANSWER}
    (device,) = (item for item in inventory.update(scan(sysfs.root), set()) if item.name == "mock1")
    assert device.uuid == uuid
    assert log.getvalue().count('"Device has a problem" device="mock1" problem="NoAnswer"') == 1
    (sysfs.classes / "mock1" / "uuid").write_text(f"{uuid}\n")
    assert problems(inventory, sysfs) == {"mock0": "", "mock1": ""}
    assert '"Device is healthy again" device="mock1"' in log.getvalue()


def test_a_device_that_never_answered_is_left_out_and_reported(sysfs: SysfsTree, log: io.StringIO) -> None:
    inventory = Inventory()
    sysfs.add("mock0", "0000:11:00.0")
    uuid = kill(sysfs, "mock0")
    for _ in range(3):
        assert problems(inventory, sysfs) == {}
    assert "uuid" in inventory.unreadable["mock0"]
    assert log.getvalue().count('"Device left out" device="mock0"') == 1
    (sysfs.classes / "mock0" / "uuid").write_text(f"{uuid}\n")
    assert problems(inventory, sysfs) == {"mock0": ""}
    assert inventory.unreadable == {}


def test_an_unplugged_device_stays_only_while_a_claim_has_it(sysfs: SysfsTree) -> None:
    inventory = Inventory()
    for number in range(2):
        sysfs.add(f"mock{number}", f"0000:1{number + 1}:00.0")
    problems(inventory, sysfs, "mock1")
    sysfs.remove("mock0")
    sysfs.remove("mock1")
    assert problems(inventory, sysfs, "mock1") == {"mock1": UNPLUGGED}
    assert problems(inventory, sysfs) == {}


def test_the_parent_of_an_unplugged_vf_stays_with_it(sysfs: SysfsTree) -> None:
    inventory = Inventory()
    sysfs.add("mock0", "0000:11:00.0", total_vfs=1)
    sysfs.add("mock0_vf0", "0000:11:00.1", physfn="0000:11:00.0")
    problems(inventory, sysfs, "mock0_vf0")
    sysfs.remove("mock0_vf0")
    sysfs.remove("mock0")
    assert problems(inventory, sysfs, "mock0_vf0") == {"mock0": UNPLUGGED, "mock0_vf0": UNPLUGGED}
    assert problems(inventory, sysfs) == {}


def test_health_of_the_module_is_a_problem(sysfs: SysfsTree, log: io.StringIO) -> None:
    inventory = Inventory()
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    assert problems(inventory, sysfs) == {"mock0": ""}
    assert inventory.turned == []
    turns = []
    for word in ("hot", "hot", "hung", "ok"):
        sysfs.write("mock0", "health", word)
        problems(inventory, sysfs)
        turns += [(before, device.problem) for device, before in inventory.turned]
    assert turns == [("", HOT), (HOT, HUNG), (HUNG, "")]
    assert '"Device has a problem" device="mock0" problem="Hot" err="the temperature of the device' in log.getvalue()
    assert '"Device is healthy again" device="mock0" problem="Hung"' in log.getvalue()


def test_hung_jobs_are_noticed(sysfs: SysfsTree, log: io.StringIO) -> None:
    inventory = Inventory()
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    sysfs.write("mock0", "hangs", "2")  # before this agent started
    problems(inventory, sysfs)
    assert inventory.hung == []
    sysfs.write("mock0", "hangs", "3")
    problems(inventory, sysfs)
    assert [device.name for device in inventory.hung] == ["mock0"]
    problems(inventory, sysfs)
    assert inventory.hung == []
    assert '"A job of a device hung" device="mock0" hangs=3' in log.getvalue()
