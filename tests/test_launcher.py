"""What is kept of clusters that have ended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from lab.artifacts import StepError
from lab.launcher import prune_runs, topology_path


def ended_run(folder: Path, number: int) -> Path:
    root = folder / f"run-{number}"
    (root / "data").mkdir(parents=True)
    (root / "logs").mkdir()
    (root / "spec.json").touch()
    lock = folder / f"run-{number}.lock"
    lock.touch()
    os.utime(lock, (number, number))
    return root


def test_logs_of_the_last_runs_stay(tmp_path: Path) -> None:
    runs = [ended_run(tmp_path, number) for number in range(1, 8)]
    named = ended_run(tmp_path, 0).rename(tmp_path / "default")
    prune_runs(tmp_path)
    assert [path.name for path in runs if path.exists()] == ["run-3", "run-4", "run-5", "run-6", "run-7"]
    assert [path.name for path in (tmp_path / "run-7").iterdir()] == ["logs"]
    assert (named / "data").exists()


def test_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    root = ended_run(tmp_path, 1)
    with (tmp_path / "run-1.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prune_runs(tmp_path)
    assert (root / "data").exists()


def test_unknown_topology_names_those_there_are() -> None:
    with pytest.raises(StepError, match="no topology 'huge'; there are .*numa-cluster"):
        topology_path("huge")
