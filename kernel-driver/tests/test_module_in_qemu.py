"""The module's ABI, in a guest with only the content of the loader's image, with real vfio-user devices."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from device_servers import serving
from mock_accel_server.registers import Registers
from module_guest import CLASS, DONE, ModuleGuest
from module_state import BUSY, INVALID, IO_ERROR, LOAD, LOADER, PCI, UNLOAD, card, pfs, published, uevents

from mock_device.topology import Node, Slot

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]


def test_attributes_match_the_topology(guest: ModuleGuest, node: Node) -> None:
    for function in node.functions:
        if function.total_vfs:
            assert guest.write(function.name, "sriov_numvfs", str(function.total_vfs)) == DONE
    assert guest.devices() == published(node.functions)
    found = guest.read_all()
    for function in node.functions:
        expected = {
            "uuid": function.uuid,
            "memory_size": str(function.memory),
            "numa_node": str(function.numa_node),
            "capabilities": f"{function.capability_bits:#010x}",
            "status": "0",
            "mode": "shared",
            "window_size": str(function.window),
            "firmware_version": "1.0",
            "health": "ok",
            "hangs": "0",
        }
        if not function.is_vf:
            expected |= dict.fromkeys(("sriov_totalvfs", "sriov_numvfs"), str(function.total_vfs))
        assert found[function.name].items() >= expected.items()


def test_modes_of_attributes(guest: ModuleGuest, node: Node) -> None:
    files = guest.ok(f"cd {CLASS}/mock0/; stat -c '%n %a %u' *")
    modes = {name: f"{mode} {owner}" for name, mode, owner in (line.split() for line in files.splitlines())}
    constant = dict.fromkeys(("uuid", "memory_size", "numa_node", "capabilities", "sriov_totalvfs"), "444 0")
    assert modes.items() >= (constant | dict.fromkeys(("status", "sriov_numvfs"), "644 0")).items()


def test_every_attribute_is_described(guest: ModuleGuest) -> None:
    """``ABI/testing`` describes exactly the attributes of the class."""
    text = (Path(__file__).parents[1] / "ABI/testing/sysfs-class-mock-accel").read_text()
    described = set(re.findall(rf"^What:\t\t{CLASS}/<name>/(\w+)$", text, re.MULTILINE))
    found = set(guest.ok(f"cd {CLASS}; ls -1 mock*/").splitlines())
    of_every_device = {"power", "subsystem"}
    assert {name for name in found if name and not name.endswith(":")} == described | of_every_device


def test_status_changes_one_device_only(guest: ModuleGuest, node: Node) -> None:
    free = dict.fromkeys(pfs(node), "0")
    for value in ("1", r"1\n", "0", r"0\n"):
        assert guest.write("mock1", "status", value) == DONE
        assert {name: found["status"] for name, found in guest.read_all().items()} == free | {"mock1": value[0]}


@pytest.mark.parametrize("value", ["2", "-1", r"\n", "x", "1x", "0 1", "4294967297"])
def test_status_is_0_or_1(guest: ModuleGuest, value: str) -> None:
    for status in ("0", "1"):
        assert guest.write("mock0", "status", status) == DONE
        assert guest.write("mock0", "status", value) == INVALID
        assert guest.read("mock0", "status") == status


def test_vfs_appear_and_disappear_with_their_links(guest: ModuleGuest, node: Node) -> None:
    pf, *vfs = card(node).functions
    links = f"cd {PCI}; for l in */virtfn* */physfn; do ! test -L $l || echo $l $(readlink $l); done"
    for count in (1, 1, 0, 2, 0):
        assert guest.write(pf.name, "sriov_numvfs", str(count)) == DONE
        assert guest.read(pf.name, "sriov_numvfs") == str(count)
        assert guest.devices() == pfs(node) | published(vfs[:count])
        forward = [f"{pf.bdf}/virtfn{number} ../{vf.bdf}" for number, vf in enumerate(vfs[:count])]
        back = [f"{vf.bdf}/physfn ../{pf.bdf}" for vf in vfs[:count]]
        assert guest.ok(links).splitlines() == forward + back


@pytest.mark.parametrize("value", ["3", "-1", r"\n", "x", "4294967295", "4294967296"])
def test_numvfs_is_at_most_totalvfs(guest: ModuleGuest, node: Node, value: str) -> None:
    pf, *vfs = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.write(pf.name, "sriov_numvfs", value) == INVALID
    assert guest.read(pf.name, "sriov_numvfs") == "1"
    assert guest.devices() == pfs(node) | published(vfs[:1])


def test_pf_without_vfs_cannot_enable_any(guest: ModuleGuest, node: Node) -> None:
    pf = next(function for function in node.functions if not function.is_vf and not function.total_vfs)
    assert guest.write(pf.name, "sriov_numvfs", "1") == INVALID
    assert guest.write(pf.name, "sriov_numvfs", "0") == DONE


def test_vfs_stay_while_one_is_allocated(guest: ModuleGuest, node: Node) -> None:
    pf, first, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.write(first.name, "status", "1") == DONE
    assert guest.write(pf.name, "sriov_numvfs", "0") == BUSY
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    assert guest.run(f"echo 0 > {PCI}/{pf.bdf}/sriov_numvfs").code != 0, "nor by the PCI device's attribute"
    assert guest.devices() == pfs(node) | published([first])
    assert guest.write(first.name, "status", "0") == DONE
    assert guest.write(pf.name, "sriov_numvfs", "0") == DONE


def test_changes_send_uevents(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    with uevents(guest, "$ACTION ${DEVPATH##*/}") as heard:
        changes = ((pf.name, "sriov_numvfs", "1"), *((vf.name, "status", value) for value in "1100"))
        for name, attribute, value in (*changes, (pf.name, "sriov_numvfs", "0")):
            assert guest.write(name, attribute, value) == DONE
        told = "\n".join(f"{action} {vf.name}" for action in ("add", "change", "change", "remove"))
        guest.until(heard, told)


def test_module_can_be_reloaded(guest: ModuleGuest, node: Node) -> None:
    pf, *_ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    guest.ok(UNLOAD)
    assert guest.run(f"ls -d {CLASS} {PCI}/*/virtfn* {PCI}/*/physfn 2>/dev/null").text == ""
    guest.ok(LOAD)
    assert guest.devices() == pfs(node)
    assert guest.read(pf.name, "sriov_numvfs") == "0"


def test_module_stays_while_a_device_is_allocated(guest: ModuleGuest, node: Node) -> None:
    pf, vf, _ = card(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == DONE
    for name in (pf.name, vf.name):
        for _ in ("allocated", "allocated once more"):
            assert guest.write(name, "status", "1") == DONE
            assert "in use" in guest.run(UNLOAD).text
        for _ in ("free", "free once more"):
            assert guest.write(name, "status", "0") == DONE
    guest.ok(UNLOAD)


def test_module_stays_for_a_device_that_was_allocated_before_bind(guest: ModuleGuest, node: Node) -> None:
    """For example after an administrator unbound it and bound it again."""
    assert guest.write("mock2", "status", "1") == DONE
    for switch in ("unbind", "bind"):
        guest.ok(f"printf {pfs(node)['mock2']} > /sys/bus/pci/drivers/mock_accel/{switch}")
    guest.until(guest.devices, pfs(node))
    assert guest.read("mock2", "status") == "1"
    assert "in use" in guest.run(UNLOAD).text
    assert guest.write("mock2", "status", "0") == DONE
    guest.ok(UNLOAD)


@pytest.mark.parametrize("status", ["0", "1"])
def test_loader_unloads_the_module_unless_in_use(guest: ModuleGuest, node: Node, status: str) -> None:
    """The container's entry point; the kubelet stops it with SIGTERM."""
    guest.ok(UNLOAD)
    command = f"sh -c 'echo $$ > /tmp/loader.pid; exec {LOADER}'; echo exit $?"
    guest.ok(f"({command}) > /tmp/loader.log 2>&1 &")
    guest.until(lambda: guest.run("grep -c 'mock_accel loaded for kernel' /tmp/loader.log").text, "1")
    assert guest.devices() == pfs(node)
    assert guest.write("mock0", "status", status) == DONE
    guest.ok("kill $(cat /tmp/loader.pid)")
    guest.until(lambda: guest.ok("tail -n 1 /tmp/loader.log"), "exit 0")
    assert guest.devices() == ({} if status == "0" else pfs(node)), guest.ok("cat /tmp/loader.log")


def test_names_follow_pci_order(guest: ModuleGuest, node: Node) -> None:
    guest.power_off(*node.slots)
    assert guest.devices() == {}
    addresses: list[str] = []
    for position in (3, 0, 2, 1):
        slot = node.slots[position]
        guest.plug(slot)
        addresses = sorted(addresses + [function.bdf for function in slot.functions if not function.is_vf])
        guest.until(guest.devices, {f"mock{number}": address for number, address in enumerate(addresses)})
    assert guest.devices() == pfs(node)


def test_names_stay_while_a_device_is_allocated(guest: ModuleGuest, node: Node, spare: Slot, folder: Path) -> None:
    """A device between others is numbered after them, until another device arrives while all are free."""
    between, after = node.slots[1], node.slots[2].functions[0]
    guest.power_off(between)
    guest.ok(f"{UNLOAD}; {LOAD}")
    before = guest.devices()
    name = next(name for name, address in before.items() if address == after.bdf)
    assert name != after.name
    assert guest.write(name, "status", "1") == DONE
    guest.plug(between)
    late = [function.bdf for function in between.functions]
    expected = before | {f"mock{number}": address for number, address in enumerate(late, len(before))}
    guest.until(guest.devices, expected)
    with serving(spare.functions, folder):
        guest.plug(spare)
        guest.until(guest.devices, expected | {f"mock{len(expected)}": spare.functions[0].bdf})
        assert guest.write(name, "status", "0") == DONE
        assert guest.devices().items() >= before.items(), "names change only when a device arrives"
        guest.power_off(spare)
        guest.plug(spare)
        guest.until(guest.devices, pfs(node) | {f"mock{len(pfs(node))}": spare.functions[0].bdf})


def test_unplugging_a_slot_removes_its_vfs(guest: ModuleGuest, node: Node) -> None:
    slot = card(node)
    pf, vf, _ = slot.functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert guest.write(vf.name, "status", "1") == DONE
    guest.unplug(slot)
    left = {name: address for name, address in pfs(node).items() if name != pf.name}
    assert guest.devices() == left
    guest.plug(slot)
    guest.until(guest.devices, pfs(node))
    assert guest.write(pf.name, "sriov_numvfs", "2") == DONE
    assert [guest.read(function.name, "status") for function in slot.functions] == ["0"] * 3, "plugging is a reset"
    guest.power_off(slot)
    guest.ok(UNLOAD)


def test_status_that_the_device_ignores(guest: ModuleGuest, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is posted: QEMU and the bus report no error."""
    with monkeypatch.context() as deaf:
        deaf.setattr(Registers, "write", lambda *_: None)
        assert guest.write("mock0", "status", "1") == IO_ERROR
    assert guest.read("mock0", "status") == "0"
    guest.ok(UNLOAD)


def test_device_that_died(guest: ModuleGuest, node: Node, spare: Slot, folder: Path) -> None:
    name = f"mock{len(pfs(node))}"
    with serving(spare.functions, folder):
        guest.plug(spare)
        guest.until(lambda: guest.read(name, "uuid"), spare.functions[0].uuid)
        assert guest.write(name, "status", "1") == DONE
    for attribute in ("status", "uuid", "memory_size", "capabilities"):
        assert guest.read(name, attribute) == IO_ERROR
    for value in ("0", "1"):
        assert guest.write(name, "status", value) == IO_ERROR
    assert guest.read(name, "numa_node") == str(spare.functions[0].numa_node)
    assert guest.read("mock0", "status") == "0", "other devices are not affected"
    guest.power_off(spare)
    assert guest.devices() == pfs(node)
    guest.ok(UNLOAD)


def test_device_with_a_wrong_id_is_refused(
    guest: ModuleGuest, node: Node, spare: Slot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registers, "_ID", 0xBAD)
    address = spare.functions[0].bdf
    with serving(spare.functions, folder):
        guest.plug(spare)
        guest.until(lambda: guest.run(f"dmesg | grep -c '{address}.*id register is 0xbad'").text, "1")
        assert guest.run(f"test -e {PCI}/{address}/driver").code == 1
        guest.ok(f"{UNLOAD}; {LOAD}")
        assert guest.devices() == pfs(node)


def test_attributes_are_used_while_devices_change(guest: ModuleGuest, node: Node) -> None:
    """There is no deadlock."""
    pf, vf, _ = card(node).functions
    use = f"cat {CLASS}/*/*; for s in 1 0; do echo $s > {CLASS}/{vf.name}/status; done"
    guest.ok(f"(while :; do {use}; done) > /dev/null 2>&1 & echo $! > /tmp/user.pid")
    try:
        for _ in range(5):
            for count in ("2", "0"):
                guest.until(partial(guest.write, pf.name, "sriov_numvfs", count), DONE)
        for _ in range(3):
            guest.until(lambda: guest.run(UNLOAD).code, 0)
            guest.ok(LOAD)
    finally:
        guest.ok("kill $(cat /tmp/user.pid)")
