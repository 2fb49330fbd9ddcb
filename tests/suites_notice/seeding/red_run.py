"""A run of a suite that pauses at its first failure, so that the fault is removed before the teardown."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from support import suite_run
from support.suite_run import Ended

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

_LISTENER = Path(__file__).with_name("hold.py")


class RedRun:
    """A robot command that runs in the background; it ends with the program that started it."""

    def __init__(self, suite: str, fault: str, *options: str, variables: Mapping[str, str]) -> None:
        """Start ``suites/<suite>.robot``. ``variables`` are added to its environment."""
        self._fault = fault
        self._deadline = time.monotonic() + suite_run.TIMEOUT_SECONDS
        self._red, red = os.pipe()
        removed, self._removed = os.pipe()
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        options = ("--listener", f"{_LISTENER}:{red}:{removed}", *options)
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *suite_run.command(suite, fault, *options)],
            cwd=PROJECT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=(red, removed),
        )
        os.close(red)
        os.close(removed)

    def wait_red(self) -> None:
        """Wait until a test has failed, or all have ended. Raises StepError."""
        left = max(0.0, self._deadline - time.monotonic())
        if not select.select([self._red], [], [], left)[0]:
            raise StepError(f"the tests have not ended after {suite_run.TIMEOUT_SECONDS} s")

    def finish(self) -> dict[str, Ended]:
        """Let the teardown run, wait for the end, and return how each test ended, by name. Raises StepError."""
        os.close(self._removed)
        self._removed = -1
        try:
            self._process.wait(suite_run.TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StepError(f"the teardown has not ended after {suite_run.TIMEOUT_SECONDS} s") from error
        if self._process.returncode < 0:
            raise StepError(f"robot was ended by signal {-self._process.returncode}")
        self._output.seek(0)
        return suite_run.ended(self._fault, self._output.read())

    def kill(self) -> None:
        """End it at once; another thread's ``finish`` raises StepError."""
        self._process.kill()

    def close(self) -> None:
        """End what still runs."""
        self._process.kill()
        self._process.wait()
        for descriptor in (self._red, self._removed):
            if descriptor >= 0:
                os.close(descriptor)
        self._output.close()
