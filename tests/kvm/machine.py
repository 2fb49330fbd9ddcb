"""Runs the outer guest, and follows its report until it ends or a step takes too long."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvm.plan import SLOWNESS, Plan
from kvm.report import Progress, Result
from mock_device.lab.base import timeouts
from mock_device.lab.build.outer_guest import OuterGuest
from mock_device.lab.build.qemu_build import Qemu
from mock_device.lab.guest.guest import TIMER_OPTION

_POLL_SECONDS = 0.2
_END_SECONDS = 10.0
_CONSOLE_LINES = 30
# Nothing attacks this guest. Its one emulated CPU needs no check of clocks and timers.
_KERNEL_OPTIONS = (
    f"root=/dev/vda rw console=ttyS0 loglevel=5 panic=-1 mitigations=off {TIMER_OPTION} tsc=reliable "
    "init_on_alloc=0 audit=0 hardened_usercopy=off randomize_kstack_offset=off init=/outer-init"
)


def kernel_options() -> str:
    """The kernel's command line; the kernel puts the factor of time-outs into the environment of its first process."""
    inner = min(timeouts.factor() * SLOWNESS, timeouts.LARGEST)
    return f"{_KERNEL_OPTIONS} {timeouts.VARIABLE}={inner:g}"


def argv(
    qemu: Qemu, outer: OuterGuest, material: Path, node_disk: Path, memory_mib: int, console: Path, report: Path
) -> Sequence[str]:
    """QEMU's command line. What the guest writes to its disks is lost when it ends.

    It has one CPU: with two, each in a thread, it hung once and reset once in an hour. The disk of the nodes is its
    third one.
    """
    command = ["setpriv", "--pdeathsig", "KILL", *qemu.system_argv, "-nodefaults", "-no-user-config"]
    command += ["-display", "none", "-vga", "none", "-machine", "q35,hpet=off", "-no-reboot"]
    command += ["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", f"{memory_mib}M"]
    command += ["-kernel", str(outer.kernel), "-initrd", str(outer.initrd), "-append", kernel_options()]
    for name, disk in (("root", outer.disk), ("material", material), ("node", node_disk)):
        command += ["-drive", f"if=none,id={name},file={disk},format=raw,snapshot=on,cache=unsafe"]
        command += ["-device", f"virtio-blk-pci,drive={name}"]
    return [*command, "-device", "virtio-rng-pci", "-serial", f"file:{console}", "-serial", f"file:{report}"]


def last_lines(console: Path) -> str:
    """The last lines of a console."""
    text = console.read_text(errors="replace") if console.exists() else ""
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(lines[-_CONSOLE_LINES:])


class Watch:
    """What is known of a run: its steps, and why it must end."""

    def __init__(self, plan: Plan, report: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress = Progress(plan.steps)
        self._plan = plan
        self._report = report
        self._clock = clock
        self._start = self._step_start = clock()
        self._read = 0
        self.progress.running = plan.steps[0]

    def look(self, ended: int | None) -> bool:
        """Read what the report has got; whether the run is over. ``ended`` is QEMU's exit code, if it has ended."""
        for line in self._lines():
            self._take(line)
        running, now = self.progress.running, self._clock()
        if self.progress.complete:
            return True
        if ended is not None:
            if running:
                self._fail(f"the outer guest ended (QEMU's exit code {ended}) during this step")
            elif not self.progress.failed:
                self._fail(f"the outer guest ended (QEMU's exit code {ended}) before this step")
            return True
        if running and now - self._step_start > running.seconds:
            self._fail(f"it hangs: expected its end within {running.seconds:.0f} s")
            return True
        if now - self._start > self._plan.seconds:
            self._fail(f"expected the end of all steps within {self._plan.seconds:.0f} s")
            return True
        return False

    def _lines(self) -> Iterator[str]:
        """New complete lines of the report."""
        data = self._report.read_bytes()[self._read :] if self._report.exists() else b""
        complete, _, _ = data.rpartition(b"\n")
        if complete:
            self._read += len(complete) + 1
            yield from complete.decode(errors="replace").splitlines()

    def _take(self, line: str) -> None:
        if self.progress.running is self._plan.steps[0]:
            # The first line comes from inside: the guest has booted.
            self.progress.end(self._plan.steps[0], self._clock() - self._start, "")
        self.progress.read(line)
        self._step_start = self._clock()

    def _fail(self, reason: str) -> None:
        ended = {result.step for result in self.progress.results}
        step = self.progress.running or next(step for step in self._plan.steps if step.name not in ended)
        self.progress.end(step, self._clock() - self._step_start, reason)


def run(argv: Sequence[str], env: dict[str, str], plan: Plan, folder: Path, told: Callable[[Result], None]) -> Watch:
    """Run the outer guest, whose files are in ``folder``, until its steps have ended; ``told`` gets each result.

    Nothing runs any more afterwards, also after Ctrl-C.
    """
    watch = Watch(plan, folder / "report.log")
    with _process(argv, env, folder / "qemu.log") as process:
        known = over = 0
        while not over:
            over = watch.look(process.poll())
            for result in watch.progress.results[known:]:
                told(result)
            known = len(watch.progress.results)
            if not over:
                time.sleep(_POLL_SECONDS)
    return watch


@contextmanager
def _process(argv: Sequence[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(_END_SECONDS)
