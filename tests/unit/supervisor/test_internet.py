"""The way of a cluster to the outside, through passt."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_supervisor import SPEC
from support.inside import report_of
from support.topologies import CLUSTER

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import NO_INTERNET, ClusterPaths
from mock_device.lab.build import prerequisites
from mock_device.lab.cluster import passt
from mock_device.lab.supervisor import internet, registry
from mock_device.lab.supervisor.supervisor import Supervisor

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


@pytest.mark.parametrize(("descriptor", "before", "after"), [(NO_INTERNET, "off", "off"), (7, "on", "ended")])
def test_supervisor_reports_whether_guests_reach_the_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], descriptor: int, before: str, after: str
) -> None:
    paths = ClusterPaths(tmp_path / "some")
    paths.root.mkdir()
    paths.topology.write_text(CLUSTER.text)
    supervisor = Supervisor(
        replace(SPEC, topology=str(CLUSTER.path), directory=str(paths.root), internet_fd=descriptor)
    )
    assert supervisor._status()["internet"] == before
    supervisor.processes._internet_ended()
    assert supervisor._status()["internet"] == after
    assert f"guests no longer reach the outside; log: {paths.passt_log}" in capsys.readouterr().out


def test_launcher_hands_passt_to_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run(argv: list[str], *, pass_fds: list[int], **_: object) -> None:
        started.append([*argv, *map(str, pass_fds)])

    paths = ClusterPaths(tmp_path)
    paths.logs.mkdir()
    monkeypatch.setattr(prerequisites, "_which", lambda _: "/usr/bin/passt")
    monkeypatch.setattr(subprocess, "Popen", run)
    with ExitStack() as stack:
        ours = passt.start(paths, stack)
        ((*argv, inherited),) = started
        assert f"--fd={inherited}" in argv
        assert "--no-map-gw" in argv
        assert str(ours.fileno()) != inherited


def test_everything_that_leaves_gets_the_clusters_address() -> None:
    assert internet.rules()[-1] == "add rule ip lab-internet postrouting oifname outside masquerade"


def test_registry_knows_its_names() -> None:
    argv = registry.argv(Path("/r/lab-registry"), Path("/data/registry"), internet=False)
    assert argv == [
        "/r/lab-registry",
        "--address=192.168.122.1:5000",
        "--folder=/data/registry",
        "--names=registry.mock-device.internal,192.168.122.1,localhost,127.0.0.1",
    ]
    assert registry.argv(Path("/r"), Path("/d"), internet=True)[-1] == "--internet"
