"""The guides: their listings are files, and what they tell the reader to do works."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from subprocess import run

import pytest
from robot.api import ExecutionResult

from mock_device.driver import description
from mock_device.lab.base.paths import PROJECT

DOCS = PROJECT / "docs"
GUIDE = DOCS / "write-a-scenario.md"
SUITE = DOCS / "examples" / "my-first-scenario.robot"
DRIVER_GUIDE = DOCS / "test-your-driver.md"
DRIVER_SUITE = DOCS / "examples" / "my-driver.robot"


def listings(page: Path) -> list[str]:
    return re.findall(r"^```robotframework\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_listing_of_the_guide_equals_the_file() -> None:
    assert listings(GUIDE)[0] == SUITE.read_text()


def test_description_in_the_guide_of_drivers_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", DRIVER_GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "deploy").mkdir()
    for name in ("my-driver.tar", "deploy/driver.yaml"):
        (tmp_path / name).touch()
    path = tmp_path / "my-driver.yaml"
    path.write_text(text)
    driver = description.read(path)
    assert {"recovery", "attribute-numa-node", "cdi"} <= driver.offers
    named = re.findall(r"`needs-([a-z-]+)`", DRIVER_GUIDE.read_text())
    assert named and set(named) <= description.known_offers()


def changed(change: str) -> str:
    """The guide's suite with one line replaced, as the guide says."""
    start = re.split(r"    (?=\d|count)", change)[0]
    lines = [line for line in SUITE.read_text().splitlines(keepends=True) if line.startswith(start)]
    assert len(lines) == 1
    return SUITE.read_text().replace(lines[0], change)


@pytest.mark.slow
def test_dry_run_accepts_the_suites_of_the_guides_and_rejects_an_unknown_keyword(tmp_path: Path) -> None:
    """In a project with these resources and libraries; one run, because each takes a second to start."""
    for name in ("resources", "libraries", "variables"):
        (tmp_path / name).symlink_to(PROJECT / name)
    wrong_number, no_numa_node = listings(GUIDE)[1:]
    suites = {
        "scenario": SUITE.read_text(),
        "driver": DRIVER_SUITE.read_text(),
        "wrong-number": changed(wrong_number),
        "no-numa-node": changed(no_numa_node),
        "unknown": SUITE.read_text().replace("Create Pod    pair", "Make Pod    pair"),
    }
    (tmp_path / "suites").mkdir()
    for name, text in suites.items():
        (tmp_path / "suites" / f"{name}.robot").write_text(text)
    output = tmp_path / "output.xml"
    argv = [sys.executable, "-m", "robot", "--dryrun", "--output", str(output), "--report", "none", "--log", "none"]
    ended = run([*argv, str(tmp_path / "suites")], capture_output=True, text=True, check=False, timeout=60)
    found = {suite.source.stem: suite.statistics for suite in ExecutionResult(output).suite.suites}
    failed = {name: statistics.failed for name, statistics in found.items()}
    assert failed == {**dict.fromkeys(suites, 0), "unknown": failed["unknown"]}
    assert {found[name].total for name in ("scenario", "driver")} == {3}
    assert failed["unknown"] == 1
    assert "No keyword with name 'Make Pod' found" in ended.stdout
    assert "ERROR" not in ended.stderr
