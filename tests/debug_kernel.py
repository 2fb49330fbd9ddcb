"""Runs the kernel module's tests in a debug kernel: KASAN, lockdep, fault injection. ``make test-debug-kernel``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from mock_device.lab.base import command_line, timeouts
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build.debug_kernel import build_debug_kernel

REPORT = PROJECT / "results" / "debug-kernel.xml"
FACTOR = 6.0
"""How much longer guests may take for an answer: this kernel checks each access to memory."""
_TEST_SECONDS = 3600
_KERNEL = {"MODULE_TEST_KERNEL": "debug"}


def environment() -> dict[str, str]:
    """Environment of the tests: the debug kernel, and a factor of time-outs of ``FACTOR`` or more. Raises StepError."""
    return {**os.environ, **_KERNEL, timeouts.VARIABLE: f"{max(FACTOR, timeouts.factor()):g}"}


def command(arguments: Sequence[str]) -> list[str]:
    """pytest with the tests that boot a guest; ``arguments`` are more of its options."""
    argv = [sys.executable, "-m", "pytest", "-q", f"--timeout={_TEST_SECONDS}", f"--junit-xml={REPORT}"]
    return [*argv, "-m", "slow", "kernel-driver/tests", *arguments]


@click.command("debug-kernel", context_settings={**command_line.SETTINGS, "ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: Sequence[str]) -> int:
    """Run the module's tests in the debug kernel, which is built first; ARGUMENTS are options of pytest."""
    build_debug_kernel()
    REPORT.parent.mkdir(exist_ok=True)
    return subprocess.run(command(arguments), cwd=PROJECT, env=environment(), check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests; the exit code is that of pytest, 1 if the kernel cannot be built."""
    return command_line.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
