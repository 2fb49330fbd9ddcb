"""Finding topologies and profiles by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import profile_path, topology_names, topology_path


def test_topology_and_profile_are_found_by_name() -> None:
    assert topology_path("numa-cluster") == PROJECT / "variables/topologies/numa-cluster.yaml"
    assert profile_path("embedded") == PROJECT / "variables/embedded.yaml"
    assert "dense" in topology_names()


def test_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert topology_path("own.yaml") == tmp_path / "own.yaml"


@pytest.mark.parametrize(
    ("find", "message"),
    [(topology_path, "no topology 'huge'; available: .*numa-cluster"), (profile_path, "no profile 'huge'; .*embedded")],
)
def test_error_of_an_unknown_name_lists_the_known_ones(find: Callable[[str], Path], message: str) -> None:
    with pytest.raises(StepError, match=message):
        find("huge")


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no topology '.*nowhere.yaml'"):
        topology_path(str(tmp_path / "nowhere.yaml"))
