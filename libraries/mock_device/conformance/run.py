"""Runs suites/conformance.robot on a driver, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mock_device.conformance import results
from mock_device.conformance.results import Conformance
from mock_device.driver import description
from mock_device.lab.base.commands import interrupt
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout

LONG = "long"
"""Tag of tests that restart something, which a short run leaves out."""
OUTPUT = "output.xml"
_STDERR = 2


def argv(driver: str, folder: Path, *, short: bool, topology: str) -> list[str]:
    """Command line of Robot Framework: on the cluster of ``lab up``, or on one that the suite starts."""
    command = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--variable", f"DRIVER:{driver}"]
    if short:
        command += ["--exclude", LONG]
    if topology:
        command += ["--variable", f"TOPOLOGY:{topology}"]
    return [*command, str(results.SUITE)]


def run(command: Sequence[str], folder: Path) -> Path:
    """Run Robot Framework, with its messages on standard error, and return its output. Raises StepError without one."""
    output = folder / OUTPUT
    output.unlink(missing_ok=True)
    child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, stdout=_STDERR)
    try:
        code = child.wait()
    finally:
        interrupt(child, Timeout.INTERRUPTED_RUN.seconds)
    if not output.is_file():
        raise StepError(f"robot ended with {code} and left no {output}")
    return output


def read(output: Path, driver: str) -> Conformance:
    """How ``driver``, a name in variables/drivers or a path, keeps the promises by the ``output`` of a run.

    Raises StepError if the run was with another driver, or if no test got a cluster.
    """
    described = description.load(driver)
    found = results.read(output, described.offers, description.known_offers())
    if not found.driver:
        raise StepError(f"{output}: no test had a cluster with the driver; look at the log beside it")
    if found.driver != described.name:
        raise StepError(
            f"{output}: expected a run with {described.name} of {described.path}, found one with {found.driver}"
        )
    return found
