"""Rounds of suites, from real output of Robot Framework: flaky tests, crashed rounds, the history."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from subprocess import Popen, run
from textwrap import dedent

import psutil
import pytest

from mock_device.acceptance import history, nightly, report, rounds
from mock_device.acceptance.nightly import Plan
from mock_device.acceptance.rounds import Row, Verdict
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.variables import driver_names, profile_names, topology_names

SUITE = """\
    *** Test Cases ***
    Always Passes
        No Operation
    Passes Now And Then
        Should Be Equal    ${ROUND}    2
    Always Fails
        Fail    as ever
    Is Skipped
        Skip    no such thing
    """


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "night.robot"
    path.write_text(dedent(SUITE))
    return path


@pytest.fixture
def outputdir(tmp_path: Path) -> Path:
    folder = tmp_path / "nightly"
    folder.mkdir()
    return folder


def summary(*, failed: int, lost: list[str] | None = None) -> dict[str, object]:
    """Summary of one suite, as ``acceptance`` writes it."""
    end = report.SuiteEnd("S", "c1", passed=1, failed=failed, skipped=0, seconds=10.0, flaky=[], unhealthy="")
    return {**asdict(report.Summary([end], lost or [])), "retired": []}


def play(suite: Path, outputdir: Path, topology: str, number: int, lost: list[str] | None = None) -> None:
    """Run a round and write what ``acceptance`` writes."""
    folder = rounds.folder_of(outputdir, topology, number)
    argv = [sys.executable, "-m", "robot", "--outputdir", str(folder), "--report", "none", "--log", "none"]
    run([*argv, "--variable", f"ROUND:{number}", str(suite)], check=False, capture_output=True, timeout=60)
    (folder / report.SUMMARY).write_text(json.dumps(summary(failed=1, lost=lost)))
    rounds.record(folder, 10.0 * number, "")


def read(outputdir: Path, topology: str = "small", count: int = 3) -> list[rounds.Round]:
    return [rounds.read(outputdir, topology, number) for number in range(1, count + 1)]


def test_test_that_passes_sometimes_is_flaky(suite: Path, outputdir: Path) -> None:
    for number in (1, 2, 3):
        play(suite, outputdir, "small", number)
    assert rounds.table(read(outputdir)) == [
        Row("small", "Night.Always Fails", 0, 3, 0, Verdict.FAILING),
        Row("small", "Night.Passes Now And Then", 1, 2, 0, Verdict.FLAKY),
        Row("small", "Night.Always Passes", 3, 0, 0, Verdict.PASSING),
        Row("small", "Night.Is Skipped", 0, 0, 3, Verdict.SKIPPED),
    ]


def test_topologies_are_counted_separately(suite: Path, outputdir: Path) -> None:
    play(suite, outputdir, "small", 1)
    play(suite, outputdir, "large", 2)
    rows = rounds.table([rounds.read(outputdir, "small", 1), rounds.read(outputdir, "large", 2)])
    assert rounds.as_table([row for row in rows if "Now And Then" in row.test]).as_text().splitlines()[1:] == [
        "failing\tsmall\t0\t1\t0\tNight.Passes Now And Then",
        "passing\tlarge\t1\t0\t0\tNight.Passes Now And Then",
    ]


def test_crashed_lost_and_unreadable_rounds_are_rows(suite: Path, outputdir: Path) -> None:
    play(suite, outputdir, "small", 1, lost=["Suites.SR-IOV"])
    crashed = rounds.folder_of(outputdir, "small", 2)
    crashed.mkdir()
    rounds.record(crashed, 5.0, "acceptance ended with 1: no disk")
    play(suite, outputdir, "small", 3)
    output = rounds.folder_of(outputdir, "small", 3) / "output.xml"
    output.write_text(output.read_text()[:700])
    found = read(outputdir, count=4)
    rows = rounds.table(found)
    assert [(row.verdict, row.test.partition(": ")[0]) for row in rows[:4]] == [
        (Verdict.CRASHED, "round 2"),
        (Verdict.CRASHED, "round 3"),
        (Verdict.CRASHED, "round 4"),
        (Verdict.FAILING, "Night.Always Fails"),
    ]
    assert rows[0].test == "round 2: acceptance ended with 1: no disk"
    assert "its results cannot be read" in rows[1].test
    assert "its folder was not collected" in rows[2].test
    assert Row("small", "Suites.SR-IOV: its process ended without a result", 0, 1, 0, Verdict.FAILING) in rows
    assert history.entry(found, rows)["crashed"] == 3


def test_table_is_written_for_people_and_scripts(suite: Path, outputdir: Path) -> None:
    play(suite, outputdir, "small", 1)
    rounds.write_table(outputdir, rounds.table(read(outputdir, count=1)))
    lines = (outputdir / "flaky.tsv").read_text().splitlines()
    assert lines[0] == "verdict\ttopology\tpassed\tfailed\tskipped\ttest"
    assert lines[1] == "failing\tsmall\t0\t1\t0\tNight.Always Fails"
    first = json.loads((outputdir / "flaky.json").read_text())[0]
    assert first == {
        "topology": "small",
        "test": "Night.Always Fails",
        "passed": 0,
        "failed": 1,
        "skipped": 0,
        "verdict": "failing",
    }


def test_history_gets_one_line_per_night(suite: Path, outputdir: Path) -> None:
    for number in (1, 2, 3):
        play(suite, outputdir, "small", number)
    found = read(outputdir)
    file = outputdir / "deep" / "history.jsonl"
    for _ in range(2):
        history.append(file, history.entry(found, rounds.table(found)))
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert first.keys() == second.keys()
    assert (first["passed"], first["failed"], first["skipped"], first["crashed"]) == (4, 5, 3, 0)
    assert (first["topologies"], first["rounds"], first["seconds"]) == (["small"], 3, 60)
    assert first["flaky"] == ["small: Night.Passes Now And Then"]
    assert first["failing"] == ["small: Night.Always Fails"]
    assert first["machine"]["cores"] == os.cpu_count()
    assert first["machine"]["accelerator"] in {"kvm", "tcg"}
    assert len(first["commit"].removesuffix("-dirty")) == 40 or first["commit"] == "unknown"


def test_each_topology_runs_once_before_any_runs_again() -> None:
    plan = Plan(["a", "b"], 2, Path("/r"))
    assert plan.each() == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_command_is_the_acceptance_command() -> None:
    line = " ".join(nightly.command("dense", 1, Path("/r/dense-2"), ["suites/numa.robot"]))
    assert line.startswith("setpriv --pdeathsig TERM ")
    assert line.endswith(
        "-m mock_device.acceptance.cli --clusters 1 --topology dense --outputdir /r/dense-2 -- suites/numa.robot"
    )


def test_other_make_of_cluster_runs_its_own_suites_on_the_default_topology() -> None:
    line = " ".join(nightly.command("control-plane-on-node", 1, Path("/r/c-1"), []))
    assert " --topology numa-cluster --profile control-plane-on-node --outputdir /r/c-1 -- " in line
    suites = [Path(word) for word in line.partition("/r/c-1 -- ")[2].split()]
    assert [suite.name for suite in suites] == ["environment.robot", "numa.robot", "allocation.robot"]
    assert all(suite.is_file() for suite in suites)
    suite = str(PROJECT / "suites/pcie.robot")
    assert nightly.command("control-plane-on-node", 1, Path("/r/c-1"), [suite])[-2:] == ["--", suite]
    options = nightly.command("control-plane-on-node", 1, Path("/r/c-1"), ["--include", "numa"])
    assert options[-3:] == [str(PROJECT / "suites/allocation.robot"), "--include", "numa"]


@pytest.mark.parametrize(
    ("cluster", "module", "profile", "suite"),
    [
        ("runc", "cli --clusters 2 --topology numa-cluster", "runc", "guide"),
        ("existing", "existing", "embedded", "operation"),
        ("existing-runc", "existing", "runc", "allocation"),
    ],
)
def test_suites_run_with_each_runtime_also_on_a_cluster_that_exists(
    cluster: str, module: str, profile: str, suite: str
) -> None:
    line = " ".join(nightly.command(cluster, 2, Path("/r"), []))
    assert f" -m mock_device.acceptance.{module} --profile {profile} --outputdir /r -- " in line
    suites = [Path(word) for word in line.partition(" -- ")[2].split()]
    assert {"environment.robot", "security.robot", f"{suite}.robot"} <= {path.name for path in suites}
    assert all(path.is_file() for path in suites)


def test_other_driver_runs_the_suites_that_know_no_driver() -> None:
    line = " ".join(nightly.command("other-driver", 1, Path("/r"), []))
    assert " --topology numa-cluster --profile embedded --driver go-driver --outputdir /r -- " in line
    assert str(PROJECT / "suites/conformance.robot") in line
    assert "--driver" not in nightly.command("runc", 1, Path("/r"), [])


def test_profiles_and_drivers_of_other_makes_exist() -> None:
    assert {cluster.driver for cluster in nightly.OTHER_CLUSTERS.values()} - {""} <= set(driver_names())
    assert {cluster.profile for cluster in nightly.OTHER_CLUSTERS.values()} <= set(profile_names())


def script(text: str) -> list[str]:
    return [sys.executable, "-c", dedent(text)]


@pytest.mark.parametrize(
    ("said", "code", "crash"),
    [
        (summary(failed=0), 0, ""),
        (summary(failed=2), 1, ""),
        (summary(failed=0, lost=["S"]), 1, ""),
        (summary(failed=0), 1, "acceptance ended with 1: acceptance: pabot ended log: /x"),
        (None, 1, "acceptance ended with 1: acceptance: pabot ended log: /x"),
        (None, 0, "acceptance ended with 0: acceptance: pabot ended log: /x"),
        ("no summary", 0, "acceptance ended with 0: acceptance: pabot ended log: /x"),
    ],
)
def test_failed_step_is_a_crash_failed_tests_are_not(tmp_path: Path, said: object, code: int, crash: str) -> None:
    if said:
        (tmp_path / "acceptance.json").write_text(json.dumps(said))
    argv = script(f"print('said'); print('acceptance: pabot ended\\n  log: /x'); exit({code})")
    assert nightly.run_round(argv, tmp_path, 30) == crash


def test_traceback_is_a_crash_with_its_error(tmp_path: Path) -> None:
    assert nightly.run_round(script("raise ValueError('odd')"), tmp_path, 30).endswith("1: ValueError: odd")


def test_hanging_round_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timeout.INTERRUPTED_RUN, "nominal", timedelta(seconds=0.5))
    deaf = """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)
        """
    start = time.monotonic()
    assert nightly.run_round(script(deaf), tmp_path, 0.6) == "did not end within 0 min"
    assert time.monotonic() - start < 20


def test_round_ends_when_nightly_is_killed(tmp_path: Path) -> None:
    nightly_process = f"""
        from pathlib import Path
        from mock_device.acceptance import nightly
        prefix = nightly.command("small", 1, Path("/"), [])[:3]
        nightly.run_round([*prefix, "sleep", "120"], Path({str(tmp_path)!r}), 120)
        """
    with Popen(script(nightly_process)) as parent:
        child = wait_for_sleep(psutil.Process(parent.pid))
        parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive


def wait_for_sleep(parent: psutil.Process) -> psutil.Process:
    """Wait for the child sleep(1) of ``parent``: earlier, setpriv(1) may not have requested its signal yet."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in parent.children():
            if child.name() == "sleep":
                return child
        time.sleep(0.05)
    raise AssertionError("the round has not started within 30 s")


def test_table_of_collected_rounds(suite: Path, outputdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        play(suite, outputdir, "dense", number)
    options = ["--table", "--rounds", "2", "--topology", "dense", "--outputdir", str(outputdir)]
    assert nightly.main(options) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "failing\tdense\t0\t2\t0\tNight.Always Fails",
        "flaky\tdense\t1\t1\t0\tNight.Passes Now And Then",
    ]
    assert "crashed\t0" in lines
    assert nightly.main([*options, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["table"]) == 4
    assert len((outputdir / "history.jsonl").read_text().splitlines()) == 2


def test_all_topologies_are_expected_by_default(outputdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly.main(["--table", "--rounds", "1", "--outputdir", str(outputdir)]) == 1
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows if row[0] == "crashed" and len(row) > 2] == sorted(
        [*topology_names(), *nightly.OTHER_CLUSTERS]
    )


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--topology", "none-such"], ["--minutes", "never"]])
def test_bad_options_are_refused(option: list[str]) -> None:
    assert nightly.main(option) == 2


@pytest.mark.parametrize("content", ["", "[]", "7", '{"seconds": null, "crash": ""}', '{"crash": ""}'])
def test_round_whose_file_is_damaged_counts_as_crashed(tmp_path: Path, content: str) -> None:
    folder = rounds.folder_of(tmp_path, "dense", 1)
    folder.mkdir()
    (folder / rounds.ROUND).write_text(content)
    assert rounds.read(tmp_path, "dense", 1).crash.startswith("no result: ")
