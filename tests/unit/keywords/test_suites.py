"""Rules for all suites (docs/write-a-scenario.md), checked with Robot Framework's own model."""

from __future__ import annotations

from pathlib import Path

import pytest
from robot import running

from mock_device.lab.base.paths import PROJECT

SUITES = sorted((PROJECT / "suites").glob("*.robot"))
MOST_STEPS = 10
STEPS = {"KEYWORD", "VAR"}


def complaints(suite: Path) -> list[str]:
    """Tests that are too long or contain branches, loops or sleeps instead of expectations."""
    found = []
    for test in running.TestSuite.from_file_system(suite).tests:
        steps = list(test.body)
        if len(steps) > MOST_STEPS:
            found.append(f"{test.name}: {len(steps)} steps, {MOST_STEPS} are allowed")
        found += [f"{test.name}: {step.type} in a test" for step in steps if step.type not in STEPS]
        found += [f"{test.name}: {step.name}" for step in steps if getattr(step, "name", None) == "Sleep"]
    return found


@pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
def test_suites_follow_the_rules(suite: Path) -> None:
    assert complaints(suite) == []


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ("    No Operation\n" * 11, "A Test: 11 steps, 10 are allowed"),
        ("    FOR    ${x}    IN    a    b\n        No Operation\n    END\n", "A Test: FOR in a test"),
        ("    IF    True    No Operation\n", "A Test: IF/ELSE ROOT in a test"),
        ("    Sleep    1 second\n", "A Test: Sleep"),
    ],
)
def test_violation_of_a_rule_is_reported(steps: str, complaint: str, tmp_path: Path) -> None:
    suite = tmp_path / "some.robot"
    suite.write_text(f"*** Test Cases ***\nA Test\n{steps}")
    assert complaints(suite) == [complaint]
