"""Robot listener: the first teardown after a failure waits until the fault is removed.

A teardown restores devices and waits until the cluster is healthy, which a
seeded fault may prevent for minutes.
"""

from __future__ import annotations

import os
import select
from typing import Any

from robot.libraries.BuiltIn import BuiltIn
from robot.running import TestCase, TestSuite

_REMOVAL_SECONDS = 1800.0


class hold:
    """Closes descriptor ``red`` when a test has failed, then waits until ``removed`` is closed.

    Robot looks for a class with the name of the module.
    """

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self, red: str, removed: str) -> None:
        self._red = int(red)
        self._removed = int(removed)
        self._held = False

    def start_keyword(self, data: Any, result: Any) -> None:
        """Wait before the teardown of a failed test or suite."""
        if self._held or result.type != result.TEARDOWN:
            return
        owner = {TestCase: "TEST", TestSuite: "SUITE"}.get(type(data.parent))
        if owner and BuiltIn().get_variable_value(f"${{{owner} STATUS}}") == "FAIL":
            self._held = True
            os.close(self._red)
            select.select([self._removed], [], [], _REMOVAL_SECONDS)
