"""The module's ABI on a real kernel, with real vfio-user devices, in a guest that has nothing but the loader's image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import topology
from device_servers import ServerProcess
from module_guest import CLASS, EXTRA_PORT, ModuleGuest

pytestmark = pytest.mark.slow

LOADER = "/usr/local/bin/loader"
MODPROBE = "/usr/sbin/modprobe -d /opt"
LOADED = "test -d /sys/module/mock_accel"
INVALID, BUSY, IO_ERROR = "Invalid argument", "Device or resource busy", "Input/output error"
# What lib/ and kernel/ print when something in the kernel is wrong.
COMPLAINT = re.compile(r"WARNING:|BUG:|Oops|Call Trace|refcount_t|sysfs: cannot|kobject|use-after-free|INFO: task")


def load(guest: ModuleGuest) -> None:
    guest.ok(f"{MODPROBE} mock_accel")


def unload(guest: ModuleGuest) -> None:
    guest.ok(f"{MODPROBE} -r mock_accel")


def names(node: topology.Node, *, vfs: bool = False) -> dict[str, str]:
    """Name and PCI address of each device, as the topology says."""
    return {function.name: function.bdf for function in node.functions if vfs or not function.is_vf}


def card_with_vfs(node: topology.Node) -> topology.Slot:
    return next(slot for slot in node.slots if slot.functions[0].total_vfs == 2)


@pytest.fixture(scope="module", autouse=True)
def plugged(guest: ModuleGuest, node: topology.Node) -> None:
    """All slots of the node, plugged in an order of their own, with the module loaded after the first."""
    order = [node.slots[position] for position in (3, 0, 2, 1)]
    for function in sorted(order[0].functions, key=lambda function: -function.function):
        guest.plug(function.name, order[0].root_port, f"{function.device:#x}.{function.function:#x}")
    count = len(order[0].functions)
    guest.until(lambda: guest.ok("grep -lx 0x1de5 /sys/bus/pci/devices/*/vendor | wc -l") == str(count), "on the bus")
    load(guest)
    assert list(guest.devices()) == [f"mock{number}" for number in range(count)]
    for slot in order[1:]:
        guest.plug_slot(slot)
        addresses = list(guest.devices().items())
        assert sorted(addresses) == sorted(addresses, key=lambda item: item[1])


@pytest.fixture(autouse=True)
def free(guest: ModuleGuest, plugged: None, node: topology.Node) -> Iterator[None]:
    """Every test begins and ends with all PFs there, no VF, all free, and no complaint of the kernel."""
    assert guest.devices() == names(node)
    yield
    assert guest.devices() == names(node)
    assert set(guest.ok(f"cat {CLASS}/*/status").split()) == {"0"}
    complaints = [line for line in guest.ok("dmesg").splitlines() if COMPLAINT.search(line)]
    assert not complaints


def test_attributes_are_those_of_the_topology(guest: ModuleGuest, node: topology.Node):
    pf = card_with_vfs(node).functions[0]
    for function in node.functions:
        if function.total_vfs:
            assert guest.write(function.name, "sriov_numvfs", str(function.total_vfs)) == ""
    assert guest.devices() == names(node, vfs=True)
    for function in node.functions:
        found = {name: guest.read(function.name, name) for name in ("uuid", "memory_size", "numa_node", "capabilities")}
        assert found == {
            "uuid": function.uuid,
            "memory_size": str(function.memory),
            "numa_node": str(function.numa_node),
            "capabilities": f"{function.capability_bits:#010x}",
        }
        sriov = set(guest.ok(f"ls {CLASS}/{function.name}").split()) & {"sriov_totalvfs", "sriov_numvfs"}
        assert len(sriov) == (0 if function.is_vf else 2)
        if not function.is_vf:
            assert guest.read(function.name, "sriov_totalvfs") == str(function.total_vfs)
    modes = guest.ok(f"stat -c '%n %a %u' {CLASS}/{pf.name}/*").replace(f"{CLASS}/{pf.name}/", "")
    for attribute, mode in {"uuid": 444, "status": 644, "sriov_totalvfs": 444, "sriov_numvfs": 644}.items():
        assert f"{attribute} {mode} 0" in modes
    for function in node.functions:
        if function.total_vfs:
            assert guest.write(function.name, "sriov_numvfs", "0") == ""


def test_status_takes_0_and_1_and_nothing_else(guest: ModuleGuest):
    for value in ("2", "-1", "", "\n", "x", "1x", "0 1", "+1", "01", "4294967297"):
        assert guest.write("mock1", "status", value) in ({INVALID} if value else {INVALID, ""})
        assert guest.read("mock1", "status") == "0", f"after writing {value!r}"
    for value in ("1", "1\n", "0\n", "0"):
        assert guest.write("mock1", "status", value) == ""
        assert guest.read("mock1", "status") == value.strip()
    assert guest.ok(f"cat {CLASS}/mock0/status") == "0"


def test_vfs_come_and_go(guest: ModuleGuest, node: topology.Node):
    pf, *vfs = card_with_vfs(node).functions
    folder = f"/sys/bus/pci/devices/{pf.bdf}"
    for count in (1, 0, 2, 0, 1, 2, 2, 1, 0):
        assert guest.write(pf.name, "sriov_numvfs", str(count)) == "", f"to {count}"
        assert guest.read(pf.name, "sriov_numvfs") == str(count)
        assert guest.devices() == names(node) | {vf.name: vf.bdf for vf in vfs[:count]}
        links = guest.ok(f"for l in {folder}/virtfn*; do readlink $l; done").split()
        assert links == [f"../{vf.bdf}" for vf in vfs[:count]]
        for vf in vfs[:count]:
            assert guest.ok(f"basename $(readlink -f {CLASS}/{vf.name}/device/physfn)") == pf.bdf
        for vf in vfs[count:]:
            assert guest.run(f"test -e /sys/bus/pci/devices/{vf.bdf}/physfn").code == 1
    for value in (str(pf.total_vfs + 1), "-1", "x", "4294967295", "\n"):
        assert guest.write(pf.name, "sriov_numvfs", value) == INVALID
        assert guest.read(pf.name, "sriov_numvfs") == "0"
    assert guest.read("mock1", "sriov_totalvfs") == "0"
    assert guest.write("mock1", "sriov_numvfs", "1") == INVALID


def test_vfs_stay_while_one_is_allocated(guest: ModuleGuest, node: topology.Node):
    pf, first, second = card_with_vfs(node).functions
    assert guest.write(pf.name, "sriov_numvfs", "1") == ""
    assert guest.write(first.name, "status", "1") == ""
    assert guest.write(pf.name, "sriov_numvfs", "0") == BUSY
    assert guest.write(pf.name, "sriov_numvfs", "1") == ""
    assert guest.write(pf.name, "sriov_numvfs", "2") == "", "growing disturbs nobody"
    assert guest.write(pf.name, "sriov_numvfs", "1") == BUSY
    assert guest.devices() == names(node) | {vf.name: vf.bdf for vf in (first, second)}
    assert guest.write(first.name, "status", "0") == ""
    assert guest.write(pf.name, "sriov_numvfs", "0") == ""


def test_user_space_hears_of_changes(guest: ModuleGuest, node: topology.Node):
    pf, vf, _ = card_with_vfs(node).functions
    guest.ok("uevent sh -c 'echo $ACTION ${DEVPATH##*/} >> /tmp/uevents' & echo $! > /tmp/uevent.pid")
    socket_is_there = "grep -q ' 15 ' /proc/net/netlink && awk '$2 == 15 && $3 != 0' /proc/net/netlink | grep -q ."
    guest.until(lambda: guest.run(socket_is_there).code == 0, "uevent listens")
    for name, attribute, value in ((pf.name, "sriov_numvfs", "1"), (vf.name, "status", "1"), (vf.name, "status", "0")):
        assert guest.write(name, attribute, value) == ""
    assert guest.write(pf.name, "sriov_numvfs", "0") == ""
    expected = [f"{action} {vf.name}" for action in ("add", "change", "change", "remove")]
    guest.until(lambda: guest.run("cat /tmp/uevents").text.splitlines() == expected, f"told {expected}")
    guest.ok("kill $(cat /tmp/uevent.pid); rm /tmp/uevents")


def test_module_goes_and_comes_again_unless_a_device_is_in_use(guest: ModuleGuest, node: topology.Node):
    pf, vf, _ = card_with_vfs(node).functions
    unload(guest)
    assert guest.devices() == {}
    load(guest)
    assert guest.devices() == names(node)
    assert guest.write(pf.name, "sriov_numvfs", "1") == ""
    for name in (pf.name, vf.name, pf.name):
        assert guest.write(name, "status", "1") == ""
        assert guest.write(name, "status", "1") == "", "again is no error"
        assert "in use" in guest.run(f"{MODPROBE} -r mock_accel").text
        assert guest.write(name, "status", "0") == ""
        assert guest.write(name, "status", "0") == ""
    unload(guest)
    links = guest.run(f"ls -d /sys/bus/pci/devices/{pf.bdf}/virtfn* /sys/bus/pci/devices/{vf.bdf}/physfn")
    assert links.code != 0
    load(guest)
    assert guest.read(pf.name, "sriov_numvfs") == "0"
    # A device that is allocated when its driver comes is held, too.
    driver = "/sys/bus/pci/drivers/mock_accel"
    assert guest.write("mock2", "status", "1") == ""
    address = names(node)["mock2"]
    guest.ok(f"printf {address} > {driver}/unbind; printf {address} > {driver}/bind")
    guest.until(lambda: guest.devices() == names(node), "back with its name")
    assert guest.read("mock2", "status") == "1"
    assert "in use" in guest.run(f"{MODPROBE} -r mock_accel").text
    assert guest.write("mock2", "status", "0") == ""
    unload(guest)
    load(guest)


def test_loader_loads_and_unloads(guest: ModuleGuest, node: topology.Node):
    """The container's own entry point; SIGTERM is what the kubelet sends."""
    unload(guest)
    guest.ok(f"{LOADER} > /tmp/loader.log 2>&1 & echo $! > /tmp/loader.pid")
    guest.until(lambda: guest.run("grep -q loaded /tmp/loader.log").code == 0, "loaded by the loader")
    assert guest.devices() == names(node)
    assert guest.write("mock0", "status", "1") == ""
    stop = "kill $(cat /tmp/loader.pid); while kill -0 $(cat /tmp/loader.pid) 2>/dev/null; do usleep 20000; done"
    guest.ok(stop)
    assert guest.run(LOADED).code == 0
    assert "in use" in guest.ok("cat /tmp/loader.log")
    # The next pod finds it loaded.
    assert guest.write("mock0", "status", "0") == ""
    guest.ok(f"{LOADER} > /tmp/loader.log 2>&1 & echo $! > /tmp/loader.pid")
    guest.until(lambda: guest.run("grep -q loaded /tmp/loader.log").code == 0, "found by the loader")
    guest.ok(stop)
    assert guest.run(LOADED).code == 1, guest.ok("cat /tmp/loader.log")
    load(guest)


def test_allocated_devices_keep_their_names(guest: ModuleGuest, node: topology.Node, sockets: Path):
    """While one is allocated, what comes between the others is numbered after them."""
    before, after = node.slots[1], node.slots[2]
    extra = ServerProcess(sockets / "extra.log", ["--uuid", "EXTRA", str(sockets / "late.sock")])
    try:
        guest.unplug(*(function.name for function in before.functions))
        unload(guest)
        load(guest)
        shifted = guest.devices()
        allocated = next(name for name, address in shifted.items() if address == after.functions[0].bdf)
        assert allocated != after.functions[0].name
        assert guest.write(allocated, "status", "1") == ""
        guest.plug_slot(before)
        assert guest.devices().items() >= shifted.items()
        number = len(shifted)
        assert [guest.devices()[f"mock{number + i}"] for i in range(2)] == [f.bdf for f in before.functions]
        # Now that numbers are out of order, a device after all others must not get one that is taken.
        guest.plug("late", EXTRA_PORT, "0.0", multifunction=False)
        guest.until(lambda: f"mock{number + 2}" in guest.devices(), f"mock{number + 2} is there")
        assert guest.read(f"mock{number + 2}", "uuid") == "EXTRA"
        assert guest.write(allocated, "status", "0") == ""
        assert guest.devices()[allocated] == after.functions[0].bdf, "names change when a device comes, at no other time"
        guest.unplug("late")
        guest.unplug(*(function.name for function in before.functions))
        guest.plug_slot(before)
        guest.until(lambda: guest.devices() == names(node), "named in PCI order")
    finally:
        extra.stop()


def test_slot_goes_with_its_vfs_and_comes_back(guest: ModuleGuest, node: topology.Node):
    slot = card_with_vfs(node)
    pf, vf, _ = slot.functions
    assert guest.write(pf.name, "sriov_numvfs", "2") == ""
    assert guest.write(vf.name, "status", "1") == ""
    gone = {function.name for function in slot.functions}
    guest.unplug(*(function.name for function in slot.functions))
    assert guest.devices() == {name: bdf for name, bdf in names(node).items() if name not in gone}
    unload(guest)
    load(guest)
    unplugged = [bdf for name, bdf in names(node).items() if name not in gone]
    assert list(guest.devices().values()) == unplugged
    guest.plug_slot(slot)
    guest.until(lambda: guest.devices() == names(node), "named in PCI order")
    assert guest.read(pf.name, "sriov_numvfs") == "0"
    assert guest.write(pf.name, "sriov_numvfs", "2") == ""
    assert {guest.read(f.name, "status") for f in slot.functions} == {"0"}, "a slot that was unplugged is reset"
    assert guest.write(pf.name, "sriov_numvfs", "0") == ""


def test_device_whose_server_died(guest: ModuleGuest, node: topology.Node, sockets: Path):
    name = f"mock{len(names(node))}"
    server = ServerProcess(sockets / "extra.log", ["--uuid", "EXTRA", str(sockets / "extra.sock")])
    try:
        guest.plug("extra", EXTRA_PORT, "0.0", multifunction=False)
        guest.until(lambda: name in guest.devices(), f"{name} is there")
        assert guest.write(name, "status", "1") == ""
        server.kill()
        for attribute in ("status", "uuid", "memory_size", "capabilities"):
            assert guest.read(name, attribute) == IO_ERROR
        for value in ("0", "1"):
            assert guest.write(name, "status", value) == IO_ERROR
        assert guest.read(name, "numa_node") == str(node.numa_nodes[-1].id)
        assert guest.read("mock0", "status") == "0"
        guest.unplug("extra")
        guest.until(lambda: name not in guest.devices(), f"{name} is gone")
    finally:
        server.kill()
    # What was allocated on a dead device does not hold the module once the device is gone.
    unload(guest)
    load(guest)
