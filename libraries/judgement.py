"""What a judgement of a layer means for a test: pass, fail, or skip."""

from __future__ import annotations

from robot.api import SkipExecution
from scenario import CheckError
from scenario.agreement import Judgement


def report(judgement: Judgement) -> None:
    """Fail with what the layer is to blame for, or skip when a layer before is wrong already."""
    if judgement.blamed:
        raise CheckError("\n".join(judgement.blamed))
    if judgement.excused:
        raise SkipExecution("cannot be judged, a layer before is wrong already:\n" + "\n".join(judgement.excused))
