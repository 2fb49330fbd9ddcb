"""Every step times out before its test, or the step's reason (such as the scheduler's) would never be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.keyword_timeouts import complaints

from mock_device.lab.base.paths import PROJECT

EXAMPLES = PROJECT / "docs" / "examples"
SUITES = sorted((PROJECT / "suites").glob("*.robot"))
LIBRARY = '''\
from datetime import timedelta
from robot.api.deco import keyword, library

@library(auto_keywords=False)
class WaitLibrary:
    """Waits."""

    @keyword
    def wait_for_it(self, what: str, *more: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait."""

    @keyword
    def wait_for_one(
        self, what: str, timeout: timedelta = timedelta(seconds=30), within: timedelta | None = None
    ) -> None:
        """Wait."""
'''
RESOURCE = """\
*** Settings ***
Library    ../libraries/{library}.py

*** Keywords ***
Run It
    [Arguments]    ${name}    ${patience}=1 minute
    Wait For One    ${name}    timeout=${patience}
Be Patient
    IF    True
        Wait For It    a    b
    END
Hurry
    [Timeout]    20 seconds
    Wait For One    a
"""


@pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
def test_every_step_times_out_before_its_test(suite: Path) -> None:
    assert complaints(suite) == []


@pytest.mark.parametrize("name", ["my-first-scenario.robot", "my-driver.robot"])
def test_every_step_of_the_guides_times_out_before_its_test(name: str, tmp_path: Path) -> None:
    for folder in ("resources", "libraries"):
        (tmp_path / folder).symlink_to(PROJECT / folder)
    suite = tmp_path / "suites" / name
    suite.parent.mkdir()
    suite.write_text((EXAMPLES / name).read_text())
    assert complaints(suite) == []


def read(folder: Path, steps: str, settings: str = "Test Timeout    5 minutes") -> list[str]:
    # Robot Framework caches imported modules, so each test needs another name.
    library = f"Wait{abs(hash(folder))}Library"
    for name, text in (
        (f"libraries/{library}.py", LIBRARY.replace("WaitLibrary", library)),
        ("resources/wait.resource", RESOURCE.replace("{library}", library)),
        (
            "suites/some.robot",
            f"*** Settings ***\nResource    ../resources/wait.resource\n{settings}\n"
            f"*** Variables ***\n${{LONG}}    6 minutes\n*** Test Cases ***\nA Test\n{steps}\n",
        ),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return complaints(folder / "suites/some.robot")


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("Wait For It    a", "Wait For It waits 600 s, the test ends after 300 s"),
        ("Wait For One    a    ${LONG}", "Wait For One waits 360 s, the test ends after 300 s"),
        ("Wait For One    a    timeout=5 minutes", "Wait For One waits 300 s, the test ends after 300 s"),
        ("Wait For One    a    within=5 minutes", "Wait For One waits 300 s, the test ends after 300 s"),
        ("Be Patient", "Be Patient → Wait For It waits 600 s, the test ends after 300 s"),
        ("Run It    a    patience=${LONG}", "Run It → Wait For One waits 360 s, the test ends after 300 s"),
        ("Hurry", "Hurry → Wait For One waits 30 s, the test ends after 20 s"),
        ("[Setup]    Wait For It    a\n    No Operation", "Wait For It waits 600 s, the test ends after 300 s"),
        ("[Template]    Wait For One\n    a    6 minutes", "Wait For One waits 360 s, the test ends after 300 s"),
    ],
)
def test_step_with_a_long_timeout_is_reported(step: str, complaint: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"    {step}") == [f"some.robot: A Test: {complaint}"]


@pytest.mark.parametrize(
    "step",
    [
        "Wait For One    a",
        "Wait For It    a    timeout=4 minutes",
        "Run It    a    4 minutes",
        "[Timeout]    11 minutes\n    Wait For It    a",
        "[Teardown]    Wait For It    a\n    No Operation",
    ],
)
def test_step_with_a_short_timeout_is_accepted(step: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"    {step}") == []


def test_test_without_a_timeout_is_reported(tmp_path: Path) -> None:
    found = read(tmp_path, "    No Operation", settings="Test Tags    some")
    assert found == ["some.robot: A Test: has no time-out; give the suite a Test Timeout"]


def test_timeout_known_only_at_run_time_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Wait For One: expected a time .* found \$\{UNKNOWN\}"):
        read(tmp_path, "    Wait For One    a    timeout=${UNKNOWN}")


UNDO = """
*** Keywords ***
Undo
    [Arguments]    ${keyword}    @{arguments}
    Run Keyword    ${keyword}    @{arguments}
"""


def test_keyword_run_by_name_is_followed(tmp_path: Path) -> None:
    assert read(tmp_path, f"    Undo    Wait For One    a    timeout=6 minutes\n{UNDO}") == [
        "some.robot: A Test: Undo → Run Keyword → Wait For One waits 360 s, the test ends after 300 s"
    ]
    assert read(tmp_path, f"    Undo    Wait For One    a\n{UNDO}") == []


def test_unknown_keyword_run_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no keyword 'Wait For Ever'"):
        read(tmp_path, f"    [Teardown]    Undo    Wait For Ever\n    No Operation\n{UNDO}")


def test_unknown_keyword_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no keyword 'Wait For Ever'"):
        read(tmp_path, "    Wait For Ever")
