"""The loader's entry point installs the firmware on a node, and removes it with the module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from module_guest import DONE, ModuleGuest
from module_state import LOAD, LOADER, PCI, UNLOAD, pfs

from mock_device.topology import Node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("known_state")]

_FOLDER = "/node-firmware"
_PATH = "/sys/module/firmware_class/parameters/path"
_DEFAULT = "/lib/firmware"
# A NUL ends the value; writing nothing would change nothing.
_SET = f"printf '%s\\000' {{}} > {_PATH}"


@pytest.fixture
def node_files(guest: ModuleGuest, known_state: None) -> Iterator[None]:
    """The guest as a node: its firmware folder is empty, and the pod's mounts are there."""
    guest.ok(f"{UNLOAD}; mv {_DEFAULT} /firmware.kept")
    guest.ok(f"mkdir -p {_DEFAULT} {_FOLDER}; ln -s /sys/module/firmware_class/parameters /node-firmware-class")
    yield
    guest.ok(f"{UNLOAD}; {_SET.format('')}; rm -rf {_DEFAULT} {_FOLDER} /node-firmware-class")
    guest.ok(f"mv /firmware.kept {_DEFAULT}")


@contextmanager
def loader(guest: ModuleGuest, folder: str = _FOLDER) -> Iterator[None]:
    """The entry point runs, and ends by the kubelet's SIGTERM."""
    command = f"sh -c 'echo $$ > /tmp/loader.pid; FIRMWARE_FOLDER={folder} exec {LOADER}'; echo exit $?"
    guest.ok(f": > /tmp/loader.log; ({command}) > /tmp/loader.log 2>&1 &")
    guest.until(lambda: guest.run("grep -c 'mock_accel loaded for kernel' /tmp/loader.log").text, "1")
    yield
    guest.ok("kill $(cat /tmp/loader.pid)")
    guest.until(lambda: guest.ok("tail -n 1 /tmp/loader.log"), "exit 0")


@pytest.mark.parametrize("former", ["", _DEFAULT])
@pytest.mark.usefixtures("node_files")
def test_node_is_as_before_when_the_module_is_unloaded(guest: ModuleGuest, node: Node, former: str) -> None:
    guest.ok(_SET.format(former))
    with loader(guest):
        assert guest.ok(f"cat {_PATH}") == _FOLDER
        assert {guest.read(name, "health") for name in pfs(node)} == {"ok"}
    assert guest.devices() == {}
    assert guest.ok(f"cat {_PATH}") == former
    assert guest.ok(f"ls -A {_FOLDER}") == ""


@pytest.mark.usefixtures("node_files")
def test_firmware_stays_with_the_module(guest: ModuleGuest) -> None:
    """A device that is in use needs it after a reset; the next pod takes over."""
    with loader(guest):
        assert guest.write("mock0", "status", "1") == DONE
    assert guest.write("mock0", "reset", "1") == DONE
    guest.until(lambda: guest.read("mock0", "health"), "ok")
    assert guest.ok(f"cat {_PATH}") == _FOLDER
    assert guest.write("mock0", "status", "0") == DONE
    with loader(guest):
        pass
    assert guest.ok(f"cat {_PATH}; ls -A {_FOLDER}") == ""


@pytest.mark.usefixtures("node_files")
def test_folder_of_another_program_stays_in_use(guest: ModuleGuest) -> None:
    guest.ok(_SET.format(_FOLDER))
    with loader(guest):
        guest.ok(f": > {_FOLDER}/others.fw")
    assert guest.ok(f"cat {_PATH}") == _FOLDER
    assert guest.ok(f"ls -A {_FOLDER}") == "others.fw"


@pytest.mark.usefixtures("node_files")
def test_path_of_another_program_is_refused_with_what_to_do(guest: ModuleGuest) -> None:
    guest.ok(_SET.format("/opt/others"))
    answer = guest.run(f"FIRMWARE_FOLDER={_FOLDER} {LOADER}")
    assert answer.code == 1
    assert "found /opt/others" in answer.text
    assert "set the chart's value module.pod.firmwareFolder to /opt/others" in answer.text
    assert guest.ok(f"cat {_PATH}") == "/opt/others"


@pytest.mark.usefixtures("node_files")
def test_default_folder_needs_no_parameter(guest: ModuleGuest, node: Node) -> None:
    guest.ok(f"{_SET.format('/opt/others')}; rmdir {_FOLDER}; ln -s {_DEFAULT} {_FOLDER}")
    with loader(guest, _DEFAULT):
        assert guest.ok(f"cat {_PATH}") == "/opt/others"
        assert {guest.read(name, "health") for name in pfs(node)} == {"ok"}


@pytest.mark.usefixtures("node_files")
def test_devices_without_firmware_say_so(guest: ModuleGuest, node: Node) -> None:
    """Also those that have kept it since the module was unloaded; only a reset takes it from them."""
    guest.ok(f"echo 1 > {PCI}/{pfs(node)['mock0']}/reset")
    guest.ok(LOAD)
    assert {guest.read(name, "health") for name in pfs(node)} == {"no-firmware"}
    assert [guest.read(name, "firmware_version") for name in ("mock0", "mock1")] == ["none", "1.0"]
    assert "has no firmware mock-accel/mock-accel.fw, and runs no jobs" in guest.ok("dmesg")
