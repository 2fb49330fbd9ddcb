"""Whether QEMU can run the nodes' kernel on this machine by a given accelerator."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from mock_device.lab.base.spec import QemuSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.guest.accelerator import cpu_model

STARTED = b"Linux version"
"""First words of a kernel's log."""
_POLL_SECONDS = 0.05
_MEMORY = "256M"
_FAILURE = "internal error"
"""In QEMU's message about a guest that KVM cannot run."""


def complaint(qemu: QemuSpec, kernel: Path, timeout: float | None = None) -> str:
    """Why ``kernel`` does not start in an otherwise empty guest within ``timeout`` seconds; empty if it does.

    A kernel has started when its log begins on the serial port; with working hardware virtualisation that takes a
    second. Then QEMU is killed. The default is Timeout.KERNEL_PROBE.
    """
    seconds = Timeout.KERNEL_PROBE.seconds if timeout is None else timeout
    cpu = cpu_model(qemu.accelerator, nested=qemu.nested)
    with tempfile.TemporaryDirectory(prefix="kernel-probe-") as folder:
        console, log = Path(folder, "console"), Path(folder, "qemu.log")
        argv = [*qemu.argv, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-no-reboot"]
        argv += ["-accel", qemu.accelerator, "-cpu", cpu, "-m", _MEMORY, "-serial", f"file:{console}"]
        argv += ["-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, env={**os.environ, **qemu.env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + seconds
            while True:
                ended = process.poll()
                if console.exists() and STARTED in console.read_bytes():
                    return ""
                lines = log.read_text(errors="replace").splitlines()
                if ended is not None:
                    return f"QEMU ended with {ended}: {lines[-1] if lines else 'it gave no reason'}"
                # QEMU stops such a guest, and goes on itself.
                if failure := next((line for line in lines if _FAILURE in line), ""):
                    return failure
                if time.monotonic() > deadline:
                    return f"the kernel printed nothing within {seconds:.0f} s"
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait(Timeout.KILLED.seconds)
