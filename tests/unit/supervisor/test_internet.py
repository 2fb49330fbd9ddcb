"""The way of a cluster to the outside, through passt."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.inside import report_of

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import ClusterPaths
from mock_device.lab.build import prerequisites
from mock_device.lab.cluster import passt

TIMEOUT_SECONDS = 120


@pytest.mark.slow
def test_cluster_reaches_the_outside_but_not_its_loopback(tmp_path: Path) -> None:
    if shutil.which("passt") is None:
        pytest.skip("passt is not installed")
    assert report_of("internet_inside.py", tmp_path, timeout=TIMEOUT_SECONDS) == {
        "outside answers": True,
        "loopback of the outside answers": False,
        "name server answers": True,
        "end of passt is noticed": True,
    }


def test_missing_passt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_which", lambda _: None)
    with (
        ExitStack() as stack,
        pytest.raises(StepError, match="lacks passt, which connects a cluster with the internet: apt-get install"),
    ):
        passt.start(ClusterPaths(tmp_path), stack)


def test_passt_that_cannot_run_is_an_error_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PermissionError("not executable")

    paths = ClusterPaths(tmp_path)
    paths.logs.mkdir()
    monkeypatch.setattr(prerequisites, "_which", lambda _: "/usr/bin/passt")
    monkeypatch.setattr(subprocess, "Popen", fails)
    with ExitStack() as stack, pytest.raises(StepError, match=r"cannot run passt: not executable\n  log: .*passt\.log"):
        passt.start(paths, stack)
