"""QEMU's vfio-user client against the server, over QMP and qtest: no firmware, no guest kernel, no KVM.

qtest (QEMU's docs/devel/testing/qtest.rst) takes the part of firmware and driver:
it numbers the buses, places BAR0, and reads and writes it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import SocketIO
from typing import Any

import pytest
from guest_driver import IMAGE
from mock_accel_server.descriptors import Flag, Opcode, Status
from mock_accel_server.registers import Reg
from server_process import NODE, TOPOLOGY, ServerProcess

from mock_device import topology
from mock_device.lab.base.paths import cache_root
from mock_device.lab.build.qemu_build import Qemu, ensure_qemu

pytestmark = pytest.mark.slow

WINDOW = 0xC0000000
PREFETCHABLE = 0xD0000000
PREFETCHABLE_SIZE = 16 << 20
ECAM = 0xB0000000
BUS = 1
TIMEOUT = 60.0


def deadline_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    assert left > 0, f"QEMU did not finish within {TIMEOUT:.0f} s"
    return left


class Guest:
    """A QEMU without a running CPU; ``plug`` adds devices behind its only root port."""

    def __init__(self, qemu: Qemu, folder: Path) -> None:
        self.log = folder / "qemu.log"
        memory = "memory-backend-memfd,id=ram,share=on,size=64M"
        argv = [*qemu.system_argv, "-nodefaults", "-display", "none", "-accel", "qtest", "-object", memory]
        argv += ["-machine", "q35,memory-backend=ram", "-m", "64M", "-device", "pcie-root-port,id=rp,chassis=1,addr=2"]
        argv += ["-qmp", "unix:qmp.sock,server=on,wait=off", "-qtest", "unix:qtest.sock,server=on,wait=off"]
        argv += ["-qtest-log", os.devnull]
        with self.log.open("wb") as log:
            env = os.environ | qemu.env
            self.process = subprocess.Popen(argv, cwd=folder, env=env, stderr=log, stdout=log)
        self._files: list[SocketIO] = []
        self._sockets: list[socket.socket] = []
        self.events: list[dict[str, Any]] = []
        try:
            self._qmp = self._connect(folder / "qmp.sock")
            self._qtest = self._connect(folder / "qtest.sock")
            self._line(self._qmp)
            self.qmp("qmp_capabilities")
            self._wire()
        except BaseException:
            self.close()
            raise

    def _connect(self, path: Path) -> SocketIO:
        deadline = time.monotonic() + TIMEOUT
        client = socket.socket(socket.AF_UNIX)
        self._sockets.append(client)
        while client.connect_ex(str(path)):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(min(0.02, deadline_left(deadline)))
        client.settimeout(TIMEOUT)
        file = client.makefile("rwb", buffering=0)
        self._files.append(file)
        return file

    def _line(self, file: SocketIO) -> dict[str, Any]:
        line = file.readline()
        assert line, f"QEMU ended: {self.log.read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def qmp(self, command: str, **arguments: Any) -> Any:
        """The command's result, or its error as a dict with ``class`` and ``desc``."""
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = self._line(self._qmp)
            if "event" not in answer:
                return answer.get("return", answer.get("error"))
            self.events.append(answer)

    def wait_event(self, name: str, device: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not any(event["event"] == name and event["data"].get("device") == device for event in self.events):
            deadline_left(deadline)
            self.events.append(self._line(self._qmp))
        self.events.clear()

    def qtest(self, command: str) -> int:
        self._qtest.write(command.encode() + b"\n")
        words = self._qtest.readline().decode().split()
        assert words and words[0] == "OK", words
        return int(words[1], 16) if len(words) > 1 else 0

    def _config_address(self, bus: int, device: int, function: int, offset: int) -> None:
        self.qtest(f"outl 0xcf8 {1 << 31 | bus << 16 | device << 11 | function << 8 | offset & ~3:#x}")

    def config(self, bus: int, device: int, function: int, offset: int) -> int:
        self._config_address(bus, device, function, offset)
        return self.qtest("inl 0xcfc")

    def set_config(self, bus: int, device: int, function: int, offset: int, value: int) -> None:
        self._config_address(bus, device, function, offset)
        self.qtest(f"outl 0xcfc {value:#x}")

    def extended(self, function: int, offset: int) -> int:
        return self.qtest(f"readl {ECAM + (BUS << 20 | function << 12 | offset):#x}")

    def _wire(self) -> None:
        """Set up ECAM, the bus number behind the root port and its memory window, as firmware does."""
        self.set_config(0, 0, 0, 0x64, 0)
        self.set_config(0, 0, 0, 0x60, ECAM | 1)
        self.set_config(0, 2, 0, 0x18, BUS << 16 | BUS << 8)
        self.set_config(0, 2, 0, 0x20, (WINDOW >> 16 & 0xFFF0) | (WINDOW & 0xFFF00000))
        last = PREFETCHABLE + PREFETCHABLE_SIZE - 1
        self.set_config(0, 2, 0, 0x24, (PREFETCHABLE >> 16 & 0xFFF0) | (last & 0xFFF00000))
        self.set_config(0, 2, 0, 0x04, 0x0006)

    def plug(self, function: int, path: Path) -> Any:
        """Hot-plug; the result is {} or the error."""
        where = {"type": "unix", "path": str(path)}
        arguments = {"id": f"f{function}", "bus": "rp", "addr": f"0.{function}", "multifunction": True}
        return self.qmp("device_add", driver="vfio-user-pci", socket=where, **arguments)

    def place(self, function: int) -> int:
        """Put BAR0 of ``function`` into the window and enable memory access; returns its address."""
        address = WINDOW + function * 0x1000
        self.set_config(BUS, 0, function, 0x10, address)
        self.set_config(BUS, 0, function, 0x04, 0x0006)
        return address

    def place_window(self, function: int, size: int) -> int:
        """Put BAR2 of ``function`` into the prefetchable addresses; call ``place`` afterwards."""
        address = PREFETCHABLE + function * size
        self.set_config(BUS, 0, function, 0x18, address)
        self.set_config(BUS, 0, function, 0x1C, 0)
        return address

    def write(self, address: int, data: bytes) -> None:
        self.qtest(f"write {address:#x} {len(data)} 0x{data.hex()}")

    def read(self, address: int, count: int) -> bytes:
        return self.qtest(f"read {address:#x} {count}").to_bytes(count, "big")

    def maps(self) -> str:
        """Mappings of QEMU."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def close(self) -> None:
        for file in self._files:
            file.close()
        for client in self._sockets:
            client.close()
        self.process.kill()
        self.process.wait(TIMEOUT)


@pytest.fixture(scope="module")
def qemu() -> Qemu:
    built = any(cache_root().glob("qemu/*/root/usr/bin/qemu-system-x86_64"))
    if not built and not shutil.which("qemu-system-x86_64"):
        pytest.skip("no QEMU with vfio-user; build it: lab build")
    return ensure_qemu()


@pytest.fixture
def node() -> topology.Node:
    return topology.load(TOPOLOGY).node(NODE)


@pytest.fixture
def servers(folder: Path) -> Iterator[ServerProcess]:
    servers = ServerProcess(folder)
    yield servers
    servers.close()


@pytest.fixture
def guest(qemu: Qemu, folder: Path, servers: ServerProcess) -> Iterator[Guest]:
    with ExitStack() as stack:
        guest = Guest(qemu, folder)
        stack.callback(guest.close)
        yield guest


def plug_slot(guest: Guest, node: topology.Node, folder: Path) -> tuple[topology.Function, ...]:
    """Plug all functions of the node's first slot, function 0 last."""
    functions = node.slots[0].functions
    for function in sorted(functions, key=lambda f: -f.function):
        assert guest.plug(function.function, folder / f"{function.name}.sock") == {}
    return functions


def test_guest_sees_the_slot_of_the_topology(
    guest: Guest, servers: ServerProcess, node: topology.Node, folder: Path
) -> None:
    assert servers.ready == f"ready\t{len(node.functions)}\t{folder}\n"
    functions = plug_slot(guest, node, folder)
    for function in functions:
        number = function.function
        assert guest.config(BUS, 0, number, 0x00) == (0x00021DE5 if function.is_vf else 0x00011DE5)
        assert guest.config(BUS, 0, number, 0x08) == 0x12000001
        assert guest.config(BUS, 0, number, 0x0C) >> 16 & 0xFF == 0x80
        assert guest.config(BUS, 0, number, 0x04) >> 16 & 0x10
        assert guest.config(BUS, 0, number, 0x30) == 0
        assert guest.config(BUS, 0, number, 0x34) & 0xFF == 0x40
        assert guest.config(BUS, 0, number, 0x40) & 0xFF == 0x10
        assert guest.config(BUS, 0, number, 0x40) >> 16 == 0x0002
        assert guest.extended(number, 0x00) == guest.config(BUS, 0, number, 0x00)
        assert guest.extended(number, 0x100) == 0x14000000, "SR-IOV is hidden, a null capability leads to AER"
        assert guest.extended(number, 0x140) & 0xFFFFFFF == 0x20001
        guest.set_config(BUS, 0, number, 0x10, 0xFFFFFFFF)
        assert guest.config(BUS, 0, number, 0x10) == 0xFFFFF000

        bar = guest.place(number)
        assert guest.qtest(f"readl {bar:#x}") == 0x4D4F434B
        assert guest.qtest(f"readl {bar + 4:#x}") == 0x00020000
        uuid = b"".join(guest.qtest(f"readl {bar + at:#x}").to_bytes(4, "little") for at in range(0x08, 0x18, 4))
        assert uuid.rstrip(b"\0").decode() == function.uuid
        assert guest.qtest(f"readq {bar + 0x20:#x}") == function.memory
        assert guest.qtest(f"readl {bar + 0x28:#x}") == function.capability_bits
        assert guest.qtest(f"readl {bar + 0x2C:#x}") == 0

    buses = guest.qmp("query-pci")[0]["devices"]
    behind = next(device["pci_bridge"]["devices"] for device in buses if device.get("qdev_id") == "rp")
    seen = {device["function"]: (device["id"]["vendor"], device["class_info"]["class"]) for device in behind}
    assert seen == {function.function: (0x1DE5, 0x1200) for function in functions}
    assert [(r["bar"], r["type"], r["size"], r["address"]) for r in behind[0]["regions"]] == [
        (0, "memory", 4096, WINDOW + behind[0]["function"] * 4096),
        (2, "memory", functions[0].window, -1),
    ]
    assert guest.log.read_text() == "", "QEMU logged warnings"
    assert servers.log.read_text() == "", "the server logged warnings"


def test_status_is_shared_state_until_the_machine_is_reset(guest: Guest, node: topology.Node, folder: Path) -> None:
    functions = plug_slot(guest, node, folder)
    bars = [guest.place(function.function) for function in functions]
    guest.qtest(f"writel {bars[1] + 0x2C:#x} 1")
    assert [guest.qtest(f"readl {bar + 0x2C:#x}") for bar in bars] == [0, 1, 0]
    guest.qtest(f"writel {bars[1]:#x} 0")
    assert guest.qtest(f"readl {bars[1]:#x}") == 0x4D4F434B
    guest.qmp("system_reset")
    deadline = time.monotonic() + TIMEOUT
    while guest.config(0, 2, 0, 0x18) >> 8 & 0xFF:
        deadline_left(deadline)
    guest._wire()
    assert guest.qtest(f"readl {guest.place(1) + 0x2C:#x}") == 0


def test_unplugged_devices_can_be_plugged_again(guest: Guest, node: topology.Node, folder: Path) -> None:
    """Repeatedly: nothing remains of the last connection."""
    path = folder / f"{node.functions[0].name}.sock"
    for _ in range(5):
        assert guest.plug(0, path) == {}
        assert guest.qtest(f"readl {guest.place(0):#x}") == 0x4D4F434B
        assert "vfio-user" in str(guest.plug(1, path)), "a second client was not refused"
        assert guest.qmp("device_del", id="f0") == {}
        guest.qmp("system_reset")  # completes the unplug where no guest answers the hot-plug controller
        guest.wait_event("DEVICE_DELETED", "f0")
        guest._wire()


def until(guest: Guest, address: int, value: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while guest.qtest(f"readl {address:#x}") != value:
        deadline_left(deadline)


def test_guest_maps_the_window(guest: Guest, node: topology.Node, folder: Path) -> None:
    """Also of VFs; QEMU maps the memory of the server, and a reset of the function clears it."""
    functions = plug_slot(guest, node, folder)
    for function in functions:
        window = guest.place_window(function.function, function.window)
        bar = guest.place(function.function)
        assert guest.qtest(f"readl {bar + 0x54:#x}") == function.window
        guest.write(window + function.window - 4, b"last")
        assert guest.read(window + function.window - 4, 4) == b"last"
    assert guest.maps().count("memfd:window") == len(functions)
    guest.set_config(BUS, 0, 1, 0x48, 0x8000)
    guest.place_window(1, functions[1].window)
    guest.place(1)
    ends = [PREFETCHABLE + (number + 1) * functions[0].window - 4 for number in range(len(functions))]
    assert [guest.read(end, 4) for end in ends] == [b"last", bytes(4), b"last"]


def test_job_reaches_guest_memory_and_the_window(guest: Guest, node: topology.Node, folder: Path) -> None:
    """A copy by DMA, with an interrupt that stays pending, because its vector is masked."""
    plug_slot(guest, node, folder)
    window = guest.place_window(0, node.functions[0].window)
    bar = guest.place(0)
    ring, image, data = 0x200000, 0x201000, 0x300000
    guest.write(image, IMAGE)
    for register, value in ((Reg.FIRMWARE_ADDRESS, image), (Reg.FIRMWARE_SIZE, len(IMAGE)), (Reg.FIRMWARE_COMMAND, 1)):
        guest.qtest(f"writel {bar + register:#x} {value:#x}")
    assert guest.qtest(f"readl {bar + Reg.FIRMWARE_STATUS:#x}") == 1
    msi = 0x90
    for offset, value in ((0x04, 0xFEE00000), (0x08, 0), (0x0C, 0x30), (0x10, 0b11), (0x00, 0x0011_0000)):
        guest.set_config(BUS, 0, 0, msi + offset, value)
    for register, value in ((Reg.RING_BASE, ring), (Reg.RING_SIZE, 2), (Reg.CONTROL, 1)):
        guest.qtest(f"writel {bar + register:#x} {value:#x}")
    assert guest.qtest(f"readl {bar + Reg.ERROR:#x}") == 0
    guest.write(data, b"by DMA")
    flags = Flag.INTERRUPT | Flag.DESTINATION_WINDOW
    guest.write(ring, struct.pack("<HHIQQQQIIIIQ", Opcode.COPY, flags, 0, data, 16, 6, 0, 0, 0, 0, 0, 0))
    guest.qtest(f"writel {bar + Reg.RING_TAIL:#x} 1")
    until(guest, ring + 48, Status.DONE)
    assert guest.read(window + 16, 6) == b"by DMA"
    deadline = time.monotonic() + TIMEOUT
    while guest.config(BUS, 0, 0, msi + 0x14) != 1:
        deadline_left(deadline)
    assert guest.log.read_text() == "", "QEMU logged warnings"


def test_guest_survives_its_device_server(
    guest: Guest, servers: ServerProcess, node: topology.Node, folder: Path
) -> None:
    plug_slot(guest, node, folder)
    bar = guest.place(0)
    assert guest.qtest(f"readl {bar:#x}") == 0x4D4F434B
    servers.process.kill()
    servers.process.wait(TIMEOUT)
    assert guest.qtest(f"readl {bar:#x}") == 0xFFFFFFFF
    assert guest.qmp("query-status")["status"]
    servers.process.returncode = 0  # killed on purpose
