"""A round of suites on an attached cluster of the lab: attach, run, detach, compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mock_device.acceptance import existing, foreign, report
from mock_device.acceptance.foreign import changes
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import client

SUITE = "*** Test Cases ***\nKnows Its Profile\n    Should End With    ${PROFILE}    mine.yaml\n"
FAILING = "*** Test Cases ***\nFails\n    Fail    on purpose\n"


class FakeUser:
    """Stands for ``Foreign``; ``lab`` records its arguments."""

    prefix: tuple[str, ...] = ()
    cluster = None

    def __init__(self, folder: Path) -> None:
        self.profile = folder / "mine.yaml"
        self.calls: list[tuple[str, ...]] = []
        self.states: list[dict[str, list[str]]] = [{"v1 Node": ["one"]}, {"v1 Node": ["one"]}]
        self.released = False
        self.fails = False

    def lab(self, *arguments: str | Path, timeout: float, log: Path | None = None) -> str:
        assert timeout > 0
        self.calls.append(tuple(map(str, arguments)))
        if self.fails:
            raise StepError("lab attach ended with 1: no", log)
        return ""

    def release(self) -> None:
        self.released = True


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeUser:
    fake = FakeUser(tmp_path)
    monkeypatch.setattr(client, "up", lambda *_: fake)
    monkeypatch.setattr(foreign, "strip", lambda *_, **__: None)
    monkeypatch.setattr(foreign, "state_of", lambda _: fake.states.pop(0))
    monkeypatch.setattr(existing, "Foreign", lambda *_: fake)
    return fake


def run(folder: Path, suite: str) -> int:
    path = folder / "suite.robot"
    path.write_text(suite)
    return existing.main(["--outputdir", str(folder / "out"), "--profile", "runc", "--", str(path)])


def test_suites_run_between_attaching_and_detaching(user: FakeUser, tmp_path: Path) -> None:
    assert run(tmp_path, SUITE) == 0
    assert user.calls == [("attach", "--profile", str(user.profile)), ("detach",)]
    assert user.released
    summary = report.read_summary(tmp_path / "out")
    assert summary is not None
    assert (summary.passed, summary.failed) == (1, 0)


def test_options_of_robot_stand_after_the_suites(user: FakeUser, tmp_path: Path) -> None:
    """As for ``acceptance``; robot itself wants them first."""
    path = tmp_path / "suite.robot"
    path.write_text(SUITE + "Other\n    Fail    not chosen\n")
    assert existing.main(["--outputdir", str(tmp_path / "out"), str(path), "--", "-t", "Knows*"]) == 0
    summary = report.read_summary(tmp_path / "out")
    assert summary is not None
    assert (summary.passed, summary.failed) == (1, 0)


def test_unknown_suite_starts_no_cluster(user: FakeUser, capsys: pytest.CaptureFixture[str]) -> None:
    assert existing.main(["suites/none.robot"]) == 1
    assert "expected files or folders of suites, found suites/none.robot" in capsys.readouterr().err
    assert not user.calls
    assert not user.released


def test_failed_test_is_a_failure_of_the_round(user: FakeUser, tmp_path: Path) -> None:
    assert run(tmp_path, FAILING) == 1
    assert user.calls[-1] == ("detach",)
    assert json.loads((tmp_path / "out" / report.SUMMARY).read_text())["suites"][0]["failed"] == 1


def test_what_detaching_leaves_is_named(user: FakeUser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user.states[1] = {"v1 Node": ["one"], "files on one": ["/opt/x"]}
    assert run(tmp_path, SUITE) == 1
    assert "did not leave the cluster as it was:\n  files on one: /opt/x is left" in capsys.readouterr().err


def test_failed_attachment_ends_the_round_and_the_cluster(
    user: FakeUser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user.fails = True
    assert run(tmp_path, SUITE) == 1
    assert "existing: lab attach ended with 1: no" in capsys.readouterr().err
    assert user.released


def test_missing_output_is_named(user: FakeUser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "no suite") == 1
    assert "robot left no " in capsys.readouterr().err


def test_changes_name_what_is_left_and_what_is_gone() -> None:
    before = {"v1 Node": ["one", "two"], "images on one": ["a"]}
    after = {"v1 Node": ["two", "three"], "images on one": ["a"], "files on one": ["/opt/x"]}
    assert changes(before, after) == [
        "files on one: /opt/x is left",
        "v1 Node: three is left",
        "v1 Node: one is gone",
    ]
    assert changes(before, before) == []
