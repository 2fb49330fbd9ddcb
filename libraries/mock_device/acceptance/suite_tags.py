"""What the tags of a suite mean for its run on a pool of clusters."""

from __future__ import annotations

from robot.running import TestSuite

_ALONE = "alone"


def runs_alone(suite: TestSuite) -> bool:
    """Whether nothing else may run on the machine meanwhile: all tests of ``suite`` have the tag ``alone``."""
    return bool(suite.tests) and all(_ALONE in test.tags for test in suite.tests)
