"""Rounds in random order, and the neighbour that takes CPU time in every second one."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from mock_device.acceptance import cli, nightly, pabot_run, rounds, soak
from mock_device.acceptance.nightly import Plan


def busy() -> list[psutil.Process]:
    """Busy loops that this process started."""
    return [child for child in psutil.Process().children(recursive=True) if "while :" in " ".join(child.cmdline())]


def test_neighbour_keeps_half_of_the_cores_busy_and_ends_with_the_round() -> None:
    with soak.neighbour(4, 60):
        deadline = time.monotonic() + 20
        while sum(child.cpu_times().user for child in busy()) < 0.05:
            assert time.monotonic() < deadline
        loops = [child for child in busy() if child.name() == "sh"]
        assert len(loops) == 2
    psutil.wait_procs(loops, timeout=20)
    assert not busy()


def test_neighbour_ends_by_itself() -> None:
    with soak.neighbour(1, 0.1):
        _, alive = psutil.wait_procs(busy(), timeout=20)
        assert not alive


def test_neighbour_that_ends_at_once_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = str(uuid.uuid4())
    monkeypatch.setenv("NEIGHBOUR_TEST", mark)
    for _ in range(200):
        with soak.neighbour(2, 60):
            pass
    assert not [pid for pid in psutil.pids() if mark in environment(pid)]


def environment(pid: int) -> str:
    """The environment with which a process was started; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_each_round_has_its_own_order_and_every_second_one_a_neighbour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[tuple[Sequence[str], int]] = []

    def run_round(argv: Sequence[str], folder: Path, seconds: float) -> str:
        found.append((argv, len(busy())))
        return "no disk" if len(found) == 2 else ""

    monkeypatch.setattr(nightly, "run_round", run_round)
    assert soak.main(["--rounds", "3", "--seed", "7", "--outputdir", str(tmp_path), "--", "--include", "numa"]) == 1
    seeds = [argv[argv.index("--seed") + 1] for argv, _ in found]
    assert seeds == ["8", "9", "10"]
    assert [neighbours > 0 for _, neighbours in found] == [False, True, False]
    assert all(list(argv[-5:]) == ["--", "--exclude", "long", "--include", "numa"] for argv, _ in found)
    assert "2\t9\tyes\t0\t0\t0\t" in capsys.readouterr().out
    assert json.loads((tmp_path / "soak-2" / rounds.ROUND).read_text())["crash"] == "no disk"


def test_named_suites_are_all_run(tmp_path: Path) -> None:
    argv = soak.command(2, 1, tmp_path, [str(tmp_path)])
    assert argv[-2:] == ["--", str(tmp_path)]


def test_table_has_what_repeats_a_round(tmp_path: Path) -> None:
    folder = rounds.folder_of(tmp_path, soak.NAME, 1)
    folder.mkdir()
    rounds.record(folder, 12.0, "no disk")
    text = soak.table(Plan([soak.NAME], 1, tmp_path), 41).as_text()
    assert text.splitlines()[1].startswith("1\t42\tno\t0\t0\t0\t12\tno disk")


def test_seed_decides_the_order_of_suites(tmp_path: Path) -> None:
    for name in "abcdefgh":
        tag = "    [Tags]    alone\n" if name == "a" else ""
        (tmp_path / f"{name}.robot").write_text(f"*** Test Cases ***\nOnly\n{tag}    Log    1\n")
    one, same, other = (pabot_run.order([tmp_path], seed) for seed in (1, 1, 2))
    assert one == same
    assert sorted(one.splitlines()) == sorted(other.splitlines())
    assert one != other
    assert one.splitlines()[-2:] == other.splitlines()[-2:]
    assert one.splitlines()[-2] == "#WAIT"


@pytest.mark.parametrize("arguments", [["--seed", "x"], ["--rounds", "0"], ["--minutes", "0"]])
def test_bad_usage_runs_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(arguments) == 2
    assert "expected" in capsys.readouterr().err


def test_seed_of_acceptance_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--seed", "-1"]) == 2
    assert "expected a number from 0" in capsys.readouterr().err
