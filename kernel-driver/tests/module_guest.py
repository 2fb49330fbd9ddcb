"""A QEMU guest whose first process runs the commands that a test sends."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lab.accelerator import accelerator
from lab.guest import numa_options
from lab.qemu_root import Qemu
from topology import Node, Slot

CLASS = "/sys/class/mock-accel"
EXTRA_PORT = "extra"
"""Root port with the highest bus number; no slot of the topology is there."""
_BOOT_SECONDS = 90.0
_ANSWER_SECONDS = 30.0
_PLUG_SECONDS = 30.0
_POLL_SECONDS = 0.1

@dataclass(frozen=True)
class Answer:
    """What a command in the guest said (both streams) and its exit code."""

    code: int
    text: str


class ModuleGuest:
    """Boots a kernel and an initial RAM disk of ``initramfs``; ``run`` and ``read`` talk to its shell."""

    def __init__(self, qemu: Qemu, kernel: Path, initrd: Path, node: Node, folder: Path) -> None:
        self.node = node
        self._folder = folder
        self.console = folder / "console.log"
        self._log = folder / "qemu.log"
        accel = accelerator()
        argv = [*qemu.system_argv, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]
        argv += ["-machine", "q35", "-accel", accel, "-cpu", "max" if accel == "tcg" else "host"]
        argv += ["-smp", f"{node.cpus},sockets={node.cpus}", "-m", f"{node.memory >> 20}M", "-no-reboot"]
        argv += ["-kernel", str(kernel), "-initrd", str(initrd)]
        argv += ["-append", "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off"]
        argv += ["-serial", f"file:{self.console}", "-serial", "unix:shell.sock,server=on,wait=off"]
        argv += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
        argv += numa_options(node)
        argv += ["-device", f"pcie-root-port,id={EXTRA_PORT},bus=pxb{node.numa_nodes[-1].id},chassis=99,slot=99"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=folder, env=os.environ | qemu.env, stdout=log, stderr=log)
        self._open: list[BinaryIO | socket.socket] = []
        self._events: list[dict[str, Any]] = []
        try:
            self._qmp = self._connect("qmp.sock").makefile("rwb", buffering=0)
            self._open.append(self._qmp)
            self._shell = self._connect("shell.sock")
            self._message()
            self.qmp("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _connect(self, name: str) -> socket.socket:
        deadline = time.monotonic() + _ANSWER_SECONDS
        client = socket.socket(socket.AF_UNIX)
        self._open.append(client)
        while client.connect_ex(str(self._folder / name)):
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        client.settimeout(_ANSWER_SECONDS)
        return client

    def close(self) -> None:
        """End the guest."""
        for file in self._open:
            file.close()
        self._process.kill()
        self._process.wait(_ANSWER_SECONDS)

    # QMP

    def _message(self) -> dict[str, Any]:
        line = self._qmp.readline()
        assert line, f"QEMU went away: {self._log.read_text()}"
        message: dict[str, Any] = json.loads(line)
        return message

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command; fails with what QEMU says."""
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message()
            if "event" in message:
                self._events.append(message)
                continue
            assert "error" not in message, f"{command} {arguments}: {message['error']}"
            return message["return"]

    def plug(self, name: str, root_port: str, address: str, multifunction: bool = True) -> None:
        """Plug the device of ``<folder>/<name>.sock``; function 0 makes the guest look."""
        where = {"type": "unix", "path": f"{self._folder}/{name}.sock"}
        options = {"bus": root_port, "addr": address, "multifunction": multifunction, "rombar": 0}
        self.qmp("device_add", driver="vfio-user-pci", id=name, socket=where, **options)

    def plug_slot(self, slot: Slot) -> None:
        """Plug all functions of a slot, function 0 last, and wait until its PFs are published."""
        for function in sorted(slot.functions, key=lambda function: -function.function):
            self.plug(function.name, slot.root_port, f"{function.device:#x}.{function.function:#x}")
        expected = {function.bdf for function in slot.functions if not function.is_vf}
        self.until(lambda: expected <= set(self.devices().values()), f"published: {', '.join(sorted(expected))}")

    def unplug(self, *names: str) -> None:
        """Unplug the slot with these functions, and wait until the guest has let go of all."""
        self._events.clear()
        self.qmp("device_del", id=names[0])
        waiting = set(names)
        deadline = time.monotonic() + _PLUG_SECONDS
        while waiting:
            assert time.monotonic() < deadline, f"not unplugged after {_PLUG_SECONDS:.0f} s: {', '.join(waiting)}"
            message = self._events.pop() if self._events else self._message()
            if message["event"] == "DEVICE_DELETED":
                waiting.discard(message["data"].get("device", ""))

    # The shell

    def _answer(self, timeout: float) -> Answer:
        data = b""
        deadline = time.monotonic() + timeout
        while not (end := re.search(rb"(?:^|\n)@@(\d+)\r?\n$", data)):
            self._shell.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                got = self._shell.recv(4096)
            except TimeoutError:
                got = b""
            assert got, f"no answer in {timeout:.0f} s but {data!r}; console:\n{self.console.read_text()[-2000:]}"
            data += got
        return Answer(int(end[1]), data[: end.start()].decode(errors="replace").replace("\r", "").strip("\n"))

    def boot(self) -> None:
        """Wait until the guest takes commands."""
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
        """An attribute of a device, or the reason why it cannot be read."""
        answer = self.run(f"cat {CLASS}/{name}/{attribute}")
        return answer.text if answer.code == 0 else answer.text.rpartition(": ")[2]

    def write(self, name: str, attribute: str, value: str) -> str:
        """Write an attribute; an empty string, or the reason why it cannot be written."""
        # One write(2) with exactly these bytes; the shell's own echo does not always say why it failed.
        answer = self.run(f"printf %s {shlex.quote(value)} | dd of={CLASS}/{name}/{attribute} 2>&1 >/dev/null")
        return "" if answer.code == 0 else answer.text.rpartition(": ")[2]

    def devices(self) -> dict[str, str]:
        """PCI address by the name of each published device."""
        text = self.ok(f"cd {CLASS} 2>/dev/null || exit 0; for n in *; do readlink $n/device | sed s,.*/,$n\\ ,; done")
        return dict(line.split(" ") for line in text.splitlines())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition`` holds; ``what`` names it."""
        deadline = time.monotonic() + _PLUG_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (
                f"after {_PLUG_SECONDS:.0f} s not {what}; devices: {self.devices()}; "
                f"console:\n{self.console.read_text()[-2000:]}"
            )
            time.sleep(_POLL_SECONDS)
