"""How a cluster is started from a golden one that may be broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mock_device import topology
from mock_device.lab.base import progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.cluster import client, golden
from mock_device.lab.cluster.client import NoTopologyError
from mock_device.lab.cluster.launcher import StartError
from mock_device.topology.features import Feature


class Goldens:
    """Golden clusters 0, 1, …: one is made whenever the one before was set aside."""

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


def test_golden_that_works_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore(tmp_path, monkeypatch, set()) == "cluster of golden 0"
    assert restore(tmp_path, monkeypatch, set()) == "cluster of golden 0"


def test_broken_one_is_set_aside_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert restore(tmp_path, monkeypatch, {0}) == "cluster of golden 1"
    (aside,) = tmp_path.glob("key.failed-*")
    assert (aside / "reason.txt").read_text() == "golden 0 does not wake up\n"


def test_name_that_is_taken_does_not_count_against_the_golden_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object, golden: Path) -> str:
        raise StepError("runs already")

    goldens = Goldens(tmp_path, set())
    monkeypatch.setattr(golden, "with_driver", goldens.with_driver)
    monkeypatch.setattr(client, "start", taken)
    unused: Any = None
    with pytest.raises(StepError, match="runs already"):
        client._restore("name", unused, unused, "test")
    assert not list(tmp_path.glob("key.failed-*"))


def test_fault_of_this_start_does_not_count_against_the_golden_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, golden: Path) -> str:
        raise StartError("devices-node1: expected 'ready', found ''")

    goldens = Goldens(tmp_path, set())
    monkeypatch.setattr(golden, "with_driver", goldens.with_driver)
    monkeypatch.setattr(client, "start", fails)
    unused: Any = None
    with pytest.raises(StartError, match="devices-node1"):
        client._restore("name", unused, unused, "test")
    assert not list(tmp_path.glob("key.failed-*"))


def test_it_is_made_anew_once_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match="golden 1 does not wake up"):
        restore(tmp_path, monkeypatch, {0, 1, 2})
    assert len(list(tmp_path.glob("key.failed-*"))) == 1


def test_one_that_another_process_set_aside_is_made_anew_by_that(
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
    assert said == ["golden 0 does not wake up\nthis golden cluster is made anew by another process"]


class Running:
    """The cluster of ``lab up``."""

    def __init__(self, loaded: topology.Topology) -> None:
        self.name = "default"
        self.topology = loaded
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
    monkeypatch.setattr(client, "attach", lambda *_: running)
    monkeypatch.setattr(client, "up", lambda *_: "another one")
    monkeypatch.setattr(progress, "say", said.append)
    borrowed: Any = client.borrow(str(path))
    assert borrowed is running
    path.write_text(text.replace("16G", "8G"))
    borrowed = client.borrow(str(path))
    assert borrowed == "another one"
    assert running.released
    assert said == [f"{path} has changed since cluster 'default' was started from it"]


def test_topology_that_lacks_a_feature_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was looked for or started")

    monkeypatch.setattr(client, "attach", forbidden)
    monkeypatch.setattr(client, "up", forbidden)
    with pytest.raises(NoTopologyError, match="no sriov in topology no-sriov"):
        client.borrow("no-sriov", [Feature.SRIOV])
