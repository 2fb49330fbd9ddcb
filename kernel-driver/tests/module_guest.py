"""A QEMU guest that runs the commands of a test."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from mock_accel_server.device import Device
from qemu.qmp.legacy import QEMUMonitorProtocol

from mock_device.lab.base.timeouts import seconds
from mock_device.lab.build.qemu_build import Qemu
from mock_device.lab.guest.accelerator import accelerator, cpu_model
from mock_device.lab.guest.guest import TIMER_OPTION, numa_options
from mock_device.lab.guest.monitor import device_add_arguments
from mock_device.topology import Node, Slot

CLASS = "/sys/class/mock-accel"
DONE = ""
"""Result of a successful ``write``."""
# Wall time; LAB_TIMEOUT_FACTOR makes it longer, for a kernel that is slow.
_BOOT_SECONDS = seconds(timedelta(seconds=90))
_ANSWER_SECONDS = _WAIT_SECONDS = seconds(timedelta(seconds=30))
_POLL_SECONDS = 0.05
_EVIDENCE_BYTES = 3000

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Output (both streams) and exit code of a command in the guest."""

    code: int
    text: str


def kernel_options(accel: str) -> str:
    """The guest's kernel command line, for QEMU's accelerator ``accel``."""
    options = "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off"
    return f"{options} {TIMER_OPTION}" if accel == "tcg" else options


class ModuleGuest:
    """Boots ``kernel`` and ``folder/initrd``; device servers listen in ``folder``. A context manager."""

    def __init__(
        self, qemu: Qemu, kernel: Path, node: Node, folder: Path, *, iommu: bool = False, options: str = ""
    ) -> None:
        self._folder = folder
        self.plugged: list[Slot] = []
        self.served: dict[str, Device] = {}
        accel = accelerator()
        argv = [*qemu.system_argv, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot"]
        argv += ["-machine", "q35", "-accel", accel, "-cpu", cpu_model(accel)]
        argv += ["-smp", f"{node.cpus},sockets={node.cpus}", "-m", f"{node.memory >> 20}M"]
        argv += ["-kernel", str(kernel), "-initrd", "initrd"]
        argv += ["-append", f"{kernel_options(accel)} {options}" + " intel_iommu=on iommu=pt" * iommu]
        argv += ["-device", "intel-iommu,caching-mode=on"] * iommu
        argv += ["-serial", "file:console.log", "-serial", "unix:shell.sock,server=on,wait=off"]
        argv += ["-qmp", "unix:qmp.sock,server=on,wait=off", *numa_options(node)]
        with ExitStack() as stack:
            log = stack.enter_context((folder / "qemu.log").open("wb"))
            self._process = subprocess.Popen(argv, cwd=folder, env=os.environ | qemu.env, stdout=log, stderr=log)
            stack.callback(self._process.wait, _ANSWER_SECONDS)
            stack.callback(self._process.kill)
            self._shell = stack.enter_context(self._connected("shell.sock"))
            self._monitor = QEMUMonitorProtocol(self._connected("qmp.sock"))
            self._monitor.settimeout(_ANSWER_SECONDS)
            self._monitor.connect()
            stack.callback(self._monitor.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> ModuleGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _connected(self, name: str) -> socket.socket:
        deadline = time.monotonic() + _ANSWER_SECONDS
        client = socket.socket(socket.AF_UNIX)
        while client.connect_ex(str(self._folder / name)):
            running = self._process.poll() is None and time.monotonic() < deadline
            assert running, f"QEMU does not listen on {name}: {self._evidence()}"
            time.sleep(_POLL_SECONDS)
        return client

    def _evidence(self) -> str:
        logs = [self._folder / name for name in ("qemu.log", "console.log")]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-_EVIDENCE_BYTES:]}" for log in logs)

    # The shell

    def _answer(self, seconds: float) -> Answer:
        data = b""
        deadline = time.monotonic() + seconds
        while not (end := re.search(rb"(?:^|\n)@@(\d+)\r?\n$", data)):
            self._shell.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                got = self._shell.recv(4096)
            except TimeoutError:
                got = b""
            assert got, f"expected an answer of the guest within {seconds:.0f} s, found {data!r}; {self._evidence()}"
            data += got
        return Answer(int(end[1]), data[: end.start()].decode(errors="replace").replace("\r", "").strip("\n"))

    def boot(self) -> None:
        """Wait until the guest accepts commands."""
        assert self._answer(_BOOT_SECONDS).code == 0

    def run(self, command: str) -> Answer:
        """Run a shell command in the guest."""
        assert "\n" not in command
        self._shell.sendall(command.encode() + b"\n")
        return self._answer(_ANSWER_SECONDS)

    def ok(self, command: str) -> str:
        """The output of a command that must succeed."""
        answer = self.run(command)
        assert answer.code == 0, f"{command}: exit code {answer.code}: {answer.text}"
        return answer.text

    def read(self, name: str, attribute: str) -> str:
        """Value of a device's attribute, or the text of the error that its read gives."""
        answer = self.run(f"cat {CLASS}/{name}/{attribute}")
        return answer.text if answer.code == 0 else answer.text.rpartition(": ")[2]

    def read_all(self) -> dict[str, dict[str, str]]:
        """All readable single-line attributes: values by attribute by device."""
        # grep complains about folders and the attribute that can only be written.
        lines = self.ok(f"cd {CLASS} && {{ grep -sH '' */[a-z]*; :; }}").splitlines()
        found: dict[str, dict[str, str]] = {}
        for file, _, value in (line.partition(":") for line in lines):
            name, _, attribute = file.partition("/")
            found.setdefault(name, {})[attribute] = value
        return found

    def write(self, name: str, attribute: str, value: str) -> str:
        """Write an attribute by one write(2); returns ``DONE`` or the text of the error."""
        answer = self.run(f"printf %b {shlex.quote(value)} | dd of={CLASS}/{name}/{attribute} status=none")
        return DONE if answer.code == 0 else answer.text.rpartition(": ")[2]

    def devices(self) -> dict[str, str]:
        """PCI addresses of all published devices, by name."""
        # Quoted: without devices "*" stays literal, and must not match devices that appear a moment later.
        each = 'readlink "$n/device" | sed "s,.*/,$n ,"'
        text = self.ok(f"cd {CLASS} 2>/dev/null || exit 0; for n in *; do {each}; done")
        return dict(line.split(" ") for line in text.splitlines())

    def until(self, found: Callable[[], T], expected: T) -> None:
        """Wait until ``found()`` equals ``expected``."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while (value := found()) != expected:
            assert time.monotonic() < deadline, (
                f"expected {expected!r} within {_WAIT_SECONDS:.0f} s, found {value!r}; {self._evidence()}"
            )
            time.sleep(_POLL_SECONDS)

    def sleep_and_wake(self) -> None:
        """Suspend the guest to RAM (ACPI S3), which resets its devices, and wake it at once."""
        self._monitor.clear_events()
        # The answer arrives after the wake-up; input to the serial port before that would be lost.
        self._shell.sendall(b"echo mem > /sys/power/state\n")
        self._wait_for("SUSPEND")
        self._monitor.cmd("system_wakeup")
        answer = self._answer(_ANSWER_SECONDS)
        assert answer.code == 0, answer.text

    def _wait_for(self, name: str) -> None:
        """Wait for an event of the monitor; earlier ones are dropped."""
        event: object = None
        while event != name:
            try:
                got = self._monitor.pull_event(_WAIT_SECONDS)
            except TimeoutError:
                raise AssertionError(f"no event {name} within {_WAIT_SECONDS:.0f} s; {self._evidence()}") from None
            event = got and got["event"]

    def inject_error(self, port: str, error: str) -> None:
        """Let a root port report a PCI Express error, by its name in QEMU's ``pcie_aer_inject_error``."""
        said = self._monitor.cmd("human-monitor-command", **{"command-line": f"pcie_aer_inject_error {port} {error}"})
        assert str(said).startswith("OK"), said

    # Slots

    def plug(self, slot: Slot) -> None:
        """Plug all functions of a slot."""
        for arguments in device_add_arguments(slot, self._folder):
            self._monitor.cmd("device_add", **arguments)
        self.plugged.append(slot)

    def unplug(self, slot: Slot) -> None:
        """Ask the guest to release a slot, by QEMU's ``device_del``; the guest waits 5 s for a cancellation."""
        self._monitor.clear_events()
        self._monitor.cmd("device_del", id=slot.functions[0].name)
        self._wait_unplugged([slot])

    def power_off(self, *slots: Slot) -> None:
        """Unplug slots at once, by the slot's power switch in the guest."""
        self._monitor.clear_events()
        for slot in slots:
            switch = f"$(dirname $(grep -lx 0000:{slot.bus:02x}:00 /sys/bus/pci/slots/*/address))/power"
            self.ok(f"(echo 0 > {switch}) &")
        self._wait_unplugged(slots)

    def _wait_unplugged(self, slots: list[Slot] | tuple[Slot, ...]) -> None:
        left = {function.name for slot in slots for function in slot.functions}
        while left:
            try:
                event = self._monitor.pull_event(_WAIT_SECONDS)
            except TimeoutError:
                raise AssertionError(f"the guest does not release {sorted(left)}; {self._evidence()}") from None
            if event and event["event"] == "DEVICE_DELETED":
                left.discard(event["data"].get("device", ""))
        self.plugged = [slot for slot in self.plugged if slot not in slots]
