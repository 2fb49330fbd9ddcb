"""Tags of a suite that affect how it runs on a pool of clusters."""

from __future__ import annotations

from robot.running import TestSuite

_ALONE = "alone"


def runs_alone(suite: TestSuite) -> bool:
    """Whether ``suite`` must run alone on the machine: all its tests have the tag ``alone``."""
    return bool(suite.tests) and all(_ALONE in test.tags for test in suite.tests)
