"""``make test`` itself: commands that fail, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath

import pytest
import run
from support import PYTHONPATH

from mock_device.lab.base.paths import PROJECT

CHILD = """
import signal, sys, time
try:
    print("running", flush=True)
    signal.sigtimedwait([], 20)
except KeyboardInterrupt:
    time.sleep(1)  # longer than subprocess.run waits after Ctrl-C
    print("ended by itself", flush=True)
    sys.exit(130)
"""

PARENT = """
import sys, run
code = sys.argv.pop()
run.CHECKS = {"lint": lambda: run.command("child", sys.executable, "-c", code)}
sys.exit(run.main())
"""


def test_exit_code_decides_the_count() -> None:
    assert run.command("passes", sys.executable, "-c", "") == run.Count(passed=1)
    assert run.command("fails", sys.executable, "-c", "raise SystemExit(3)") == run.Count(failed=1, failures=("fails",))


XUNIT = """\
<testsuite name="Suites" tests="3" errors="1" failures="1">
<testcase classname="Suites.NUMA" name="Two Devices" time="1">
<failure message="found 3&#10;more" type="Check"/></testcase>
<testcase classname="unit.test_a" name="test_b"><error>raised
here</error></testcase>
<testcase classname="unit.test_a" name="test_c"/>
</testsuite>
"""


def test_failed_tests_are_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "xunit.xml"
    report.write_text(XUNIT)
    found = run.failures(report)
    assert found == ("Suites.NUMA / Two Devices: found 3", "unit.test_a / test_b: raised")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.CHECKS, "lint", lambda: run.Count(7, 2, found))
        assert run.main(["--only", "lint"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [*(f"failed: {line}" for line in found), "7 passed, 2 failed"]


def test_suites_run_on_a_control_plane_on_a_node_with_their_own_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def runs(name: str, argv: Sequence[str]) -> int:
        asked.extend(argv)
        return 1

    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "_run", runs)
    monkeypatch.setattr(run, "read_summary", lambda folder: None)
    count = run.suites_on_node()
    assert count.failed == 1
    assert count.failures == ("suites with the control plane on a node: they wrote no summary",)
    assert asked[-1] == "suites/environment.robot"
    assert asked[asked.index("--profile") + 1] == "control-plane-on-node"
    assert asked[asked.index("--outputdir") + 1] == str(tmp_path / "control-plane-on-node")


def test_short_conformance_runs_on_the_driver_in_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(run, "RESULTS", tmp_path)

    def ran(_: str, argv: list[str]) -> int:
        asked.extend(argv)
        return 1

    monkeypatch.setattr(run, "_run", ran)
    monkeypatch.setattr(run, "read_summary", lambda folder: None)
    assert run.other_driver().failures == ("conformance of the driver in Go: they wrote no summary",)
    assert asked[asked.index("--driver") + 1] == "go-driver"
    assert asked[asked.index("--outputdir") + 1] == str(tmp_path / "go-driver")
    assert asked[-4:] == ["suites/conformance.robot", "--", "--exclude", "long"]


def test_command_may_clean_up_after_ctrl_c() -> None:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    # Shells start background processes with SIGINT ignored.
    argv = ["env", "--default-signal=INT", sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        lines = iter(child.stdout.readline, "")
        assert any(line == "running\n" for line in lines)
        os.killpg(child.pid, signal.SIGINT)
        said = "".join(lines)
        assert child.wait(20) == 130
    assert "ended by itself" in said
    assert said.endswith("test: interrupted; not everything ran\n")
    assert "Traceback" not in said


def test_pytest_looks_into_all_folders_with_tests() -> None:
    """By default it leaves out folders with the name ``build``, among others."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    files = [
        path.relative_to(PROJECT) for root in settings["testpaths"] for path in (PROJECT / root).rglob("test_*.py")
    ]
    assert PurePath("tests/unit/build/test_images.py") in files
    left_out = [
        path for path in files for part in path.parts if any(fnmatch(part, glob) for glob in settings["norecursedirs"])
    ]
    assert not left_out
