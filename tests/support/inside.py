"""Runs programs of this folder in namespaces where they are root, and reads what they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mock_device.lab.base import namespaces
from support import PYTHONPATH, SUPPORT


def report_of(program: str, *arguments: object, timeout: float) -> dict[str, Any]:
    """Run ``program`` with ``arguments`` and return its report, the JSON on its last line.

    ``timeout`` is wall time in seconds. Skips the test where namespaces are
    not available; fails with the program's errors when it fails.
    """
    if forbidden := namespaces.forbidden():
        pytest.skip(f"namespaces are not available here: {forbidden.found}")
    run = subprocess.run(
        [*namespaces.unshare(), sys.executable, str(SUPPORT / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert run.returncode == 0, f"{program} {' '.join(map(str, arguments))}:\n{run.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result
