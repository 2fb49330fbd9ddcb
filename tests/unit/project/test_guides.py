"""The guides: their listings are files, and what they tell the reader to do works."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
from robot.api import ExecutionResult

from mock_device.lab.base.paths import PROJECT

DOCS = PROJECT / "docs"
GUIDE = DOCS / "write-a-scenario.md"
SUITE = DOCS / "examples" / "my-first-scenario.robot"
DRIVER_GUIDE = DOCS / "test-your-driver.md"
DRIVER_SUITE = DOCS / "examples" / "my-driver.robot"


def listings(page: Path) -> list[str]:
    return re.findall(r"^```robotframework\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("guide", "suite"), [(GUIDE, SUITE), (DRIVER_GUIDE, DRIVER_SUITE)])
def test_listing_of_the_guide_equals_the_file(guide: Path, suite: Path) -> None:
    assert listings(guide)[0] == suite.read_text()


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


@pytest.mark.slow
def test_driver_is_renamed_by_the_command_of_the_guide(tmp_path: Path) -> None:
    """The old name remains only in prose, and unit tests that compare names still pass on both sides."""
    (command,) = re.findall(r"^ +(git grep .*)$", DRIVER_GUIDE.read_text(), re.MULTILINE)
    files = run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in files.rstrip("\0").split("\0"):
        if (PROJECT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tmp_path / name)
    run(["git", "init", "-q"], cwd=tmp_path, check=True)
    run(["git", "add", "--all"], cwd=tmp_path, check=True)
    run(["bash", "-c", f"set -o pipefail; {command}"], cwd=tmp_path, check=True, timeout=60)
    left = run(
        ["git", "grep", "-l", "mock-accel.example.com"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert all(name.endswith(".md") for name in left.stdout.split())
    assert 'DRIVER_NAME = "my-accel.example.com"' in (tmp_path / "dra-driver/mock_accel_dra/__init__.py").read_text()
    tests = ["dra-driver/tests/test_slices.py", "dra-driver/tests/test_cli.py", "tests/unit/checks/test_publication.py"]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ended = run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stdout[-3000:]
