"""Starting a cluster from a golden one that may be broken, and borrowing clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mock_device import topology
from mock_device.driver import current, description
from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import topology_path
from mock_device.lab.cluster import client, drivers, golden
from mock_device.lab.cluster.client import NoTopologyError
from mock_device.lab.cluster.launcher import StartError
from mock_device.topology.features import Feature


class Goldens:
    """Fake golden clusters 0, 1, …: the next is built when the previous one is quarantined."""

    def __init__(self, root: Path, broken: set[int]) -> None:
        self.root = root
        self.broken = broken

    def with_driver(self, *_: object) -> Path:
        folder = self.root / "key"
        if not folder.exists():
            folder.mkdir()
            (folder / "number").write_text(str(len(list(self.root.glob("key.failed-*")))))
        return folder

    def start(self, *_: object, golden: Path) -> str:
        number = int((golden / "number").read_text())
        if number in self.broken:
            raise StartError(f"golden {number} does not wake up", golden=True)
        return f"cluster of golden {number}"


def restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> Any:
    goldens = Goldens(tmp_path, broken)
    monkeypatch.setattr(golden, "with_driver", goldens.with_driver)
    monkeypatch.setattr(client, "start", goldens.start)
    monkeypatch.setattr(progress, "say", lambda _: None)
    unused: Any = None
    return client._restore("name", unused, unused, "test")


def test_working_golden_cluster_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore(tmp_path, monkeypatch, set()) == "cluster of golden 0"
    assert restore(tmp_path, monkeypatch, set()) == "cluster of golden 0"


def test_broken_golden_cluster_is_quarantined_and_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore(tmp_path, monkeypatch, {0}) == "cluster of golden 1"
    (quarantine,) = tmp_path.glob("key.failed-*")
    assert (quarantine / "reason.txt").read_text() == "golden 0 does not wake up\n"


@pytest.mark.parametrize(
    "error",
    [StepError("runs already"), StartError("devices-node1: expected 'ready', found ''")],
    ids=["name is taken", "start fails for another reason"],
)
def test_golden_cluster_is_kept_when_it_is_not_to_blame(
    error: StepError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, golden: Path) -> str:
        raise error

    goldens = Goldens(tmp_path, set())
    monkeypatch.setattr(golden, "with_driver", goldens.with_driver)
    monkeypatch.setattr(client, "start", fails)
    unused: Any = None
    with pytest.raises(type(error), match=str(error)):
        client._restore("name", unused, unused, "test")
    assert not list(tmp_path.glob("key.failed-*"))


def test_golden_cluster_is_rebuilt_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match="golden 1 does not wake up"):
        restore(tmp_path, monkeypatch, {0, 1, 2})
    assert len(list(tmp_path.glob("key.failed-*"))) == 1


def test_golden_cluster_quarantined_by_another_process_is_rebuilt_by_that_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goldens = Goldens(tmp_path, {0})

    def start(*_: object, golden: Path) -> str:
        if (golden / "number").read_text() == "0":
            golden.rename(golden.with_name("key.failed-by-another"))
            raise StartError("golden 0 does not wake up", golden=True)
        return goldens.start(golden=golden)

    said: list[str] = []
    monkeypatch.setattr(golden, "with_driver", goldens.with_driver)
    monkeypatch.setattr(client, "start", start)
    monkeypatch.setattr(progress, "say", said.append)
    unused: Any = None
    restored: Any = client._restore("name", unused, unused, "test")
    assert restored == "cluster of golden 1"
    assert said == ["golden 0 does not wake up\nanother process rebuilds this golden cluster"]


class Running:
    """A fake cluster of ``lab up``."""

    def __init__(self, loaded: topology.Topology) -> None:
        self.name = "default"
        self.topology = loaded
        self.drivers = [description.load(description.DEFAULT)]
        self.released = False

    def release(self) -> None:
        self.released = True


def test_cluster_whose_topology_file_was_edited_is_not_borrowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    text = (PROJECT / "variables/topologies/single-node.yaml").read_text()
    path.write_text(text)
    running = Running(topology.load(path))
    said: list[str] = []
    monkeypatch.setattr(client, "attach", lambda *_, **__: running)
    monkeypatch.setattr(client, "up", lambda *_, **__: "another one")
    monkeypatch.setattr(progress, "say", said.append)
    borrowed: Any = client.borrow(str(path))
    assert borrowed is running
    path.write_text(text.replace("16G", "8G"))
    borrowed = client.borrow(str(path))
    assert borrowed == "another one"
    assert running.released
    assert said == [f"{path} has changed since cluster 'default' was started from it"]


def test_cluster_with_another_driver_is_not_borrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gpu.yaml"
    pods = "pods: {node-agent: {workload: plugin, labels: {app: gpu}, container: driver}}\n"
    path.write_text(f"name: gpu.example.com\nnamespace: gpus\ndevice-classes: {{all: gpu.example.com}}\n{pods}")
    running = Running(topology.load(topology_path("single-node")))
    said: list[str] = []
    monkeypatch.setattr(drivers, "_chosen", None)
    monkeypatch.setattr(client, "attach", lambda *_, **__: running)
    monkeypatch.setattr(client, "up", lambda *_, driver, **__: f"one with {driver}")
    monkeypatch.setattr(progress, "say", said.append)
    try:
        borrowed: Any = client.borrow("single-node", driver=str(path))
        assert borrowed == f"one with {path}"
        assert running.released
        assert said == ["cluster 'default' has mock-accel.example.com, not gpu.example.com"]
        running.drivers.append(description.read(path))
        borrowed = client.borrow("single-node", driver=str(path))
        assert borrowed is running
        with pytest.raises(StepError, match=r"expected driver gpu\.example\.com .*; deploy it beside: lab deploy"):
            drivers.check_deployed("default", running.drivers[:1])
    finally:
        current.use(None)


def test_topology_without_the_feature_starts_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was looked for or started")

    monkeypatch.setattr(client, "attach", forbidden)
    monkeypatch.setattr(client, "up", forbidden)
    with pytest.raises(NoTopologyError, match="no sriov in topology no-sriov"):
        client.borrow("no-sriov", [Feature.SRIOV])
