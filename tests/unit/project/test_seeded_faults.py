"""The catalogue of seeded faults fits the sources and suites; verdicts; the table of `make seeded-faults`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import seeded_faults
from suites_notice.seeding import catalogue, replacing
from suites_notice.seeding.catalogue import PARTS, Fault, Verdict, judge, names_of_tests
from suites_notice.seeding.seeder import environment
from suites_notice.seeding.trial import TOPOLOGIES
from support.suite_run import Ended

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT

FAULTS = catalogue.load()
CODE = [fault for fault in FAULTS if fault.kind in ("driver", "server")]
FAULT = Fault("wrong", "driver", "it is wrong", "driver", "pass", "numa", "B", re.compile("expected 1"), ("A",), False)
GOOD, BAD = Ended("PASS", ""), Ended("FAIL", "expected 1, found 2")


def test_catalogue_is_complete() -> None:
    assert len(FAULTS) >= 30
    assert {fault.part for fault in FAULTS} == set(PARTS)
    assert sum(fault.sample for fault in FAULTS) == 6


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_names_of_tests_a_fault_are_in_its_suite(fault: Fault) -> None:
    assert set(fault.tests) <= set(names_of_tests(fault.suite))


@pytest.mark.parametrize("fault", CODE, ids=lambda fault: fault.name)
def test_replaced_functions_exist(fault: Fault) -> None:
    program = f"{Path(replacing.__file__).read_text()}\n{fault.change}"
    folders = [str(PROJECT / "dra-driver"), str(PROJECT / "vfio-user"), str(PROJECT / "libraries")]
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.kind == "module"], ids=lambda fault: fault.name)
def test_changed_line_is_in_the_modules_source(fault: Fault) -> None:
    assert (PROJECT / "kernel-driver" / fault.change["file"]).read_text().count(fault.change["old"]) == 1


def test_hook_runs_the_fault_of_the_servers_cluster(tmp_path: Path) -> None:
    def server(cluster: str) -> str:
        topology = tmp_path / cluster / "topology.yaml"
        topology.parent.mkdir()
        topology.write_text("nodes: []\n")
        argv = [sys.executable, "-m", "mock_accel_server", "--topology", str(topology), "--node", "n"]
        variables = environment(tmp_path)
        variables["PYTHONPATH"] += f"{os.pathsep}{PROJECT / 'vfio-user'}{os.pathsep}{PROJECT / 'libraries'}"
        run = subprocess.run(
            [*argv, "--socket-dir", str(tmp_path)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return run.stderr

    (tmp_path / "server-one.py").write_text("raise SystemExit('seeded')")
    assert "seeded" in server("one")
    assert "seeded" not in server("other")


@pytest.mark.parametrize(
    ("ended", "caught_by", "reason"),
    [
        ({"A": GOOD, "B": BAD}, "right test", "expected 1, found 2"),
        ({"A": BAD}, "wrong test", "A: expected 1, found 2"),
        ({"A": GOOD, "B": Ended("FAIL", "timeout")}, "wrong test", "the message does not name the cause: timeout"),
        ({"A": GOOD, "B": GOOD}, "none", "every test passed"),
        ({"A": GOOD, "B": Ended("SKIP", "no VF")}, "none", "B was skipped: no VF"),
        ({}, "none", "every test passed"),
    ],
)
def test_verdict(ended: dict[str, Ended], caught_by: str, reason: str) -> None:
    assert judge(FAULT, ended) == Verdict(FAULT, caught_by, reason)


def test_table_counts_what_the_right_test_caught() -> None:
    found = {"wrong": Verdict(FAULT, "right test", "expected 1,\n  found 2")}
    rows = seeded_faults.rows([FAULT], found)
    text = seeded_faults.table(rows).as_text()
    assert "wrong\tdriver\tright test\tnuma\tB\texpected 1, found 2" in text
    assert "caught by the right test\t1 of 1" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("part: nowhere", "server, wiring"),
        ("seed: {guess: x}", "seed"),
        ("message: '('", "unterminated|missing"),
        ("name: 'Not A Name'", "Not A Name"),
    ],
)
def test_wrong_catalogue_is_refused(tmp_path: Path, change: str, reason: str) -> None:
    fields = {
        "name": "name: one",
        "part": "part: lab",
        "defect": "defect: d",
        "seed": "seed: {driver: pass}",
        "suite": "suite: numa",
        "test": "test: t",
        "message": "message: m",
    }
    fields[change.partition(":")[0]] = change
    path = tmp_path / "faults.yaml"
    path.write_text("- " + "\n  ".join(fields.values()) + "\n")
    with pytest.raises(StepError, match=reason):
        catalogue.load(path)


def test_topologies_of_faults_exist() -> None:
    for fault in FAULTS:
        if fault.kind == "topology":
            assert (TOPOLOGIES / f"{fault.change}.yaml").is_file()
