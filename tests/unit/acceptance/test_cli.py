"""Arguments of the ``acceptance`` command, and errors before anything starts."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import psutil
import pytest
from robot.run import USAGE
from support.topologies import CLUSTER

from mock_device.acceptance import cli, memory, pabot_run
from mock_device.acceptance.arguments import suites_and_options
from mock_device.lab.base import timeouts
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import prerequisites

SUITE = PROJECT / "suites" / "numa.robot"


@pytest.mark.parametrize("number", ["0", "9", "two", "-1"])
def test_number_of_clusters_is_bounded(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([f"--clusters={number}"]) == 2
    assert f"expected a number from 1 to 8, found '{number}'" in capsys.readouterr().err


def test_clusters_of_the_pool_have_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def up(*arguments: object, **_: object) -> None:
        asked.extend(arguments)

    monkeypatch.setattr("mock_device.acceptance.cli.client.up", up)
    cli._start("control-plane-on-node", False, "pool-1", CLUSTER)
    assert asked == [str(CLUSTER.path), "pool-1", "pool", "control-plane-on-node"]


def test_suites_and_options_are_separated() -> None:
    assert suites_and_options([]) == ([PROJECT / "suites"], [])
    assert suites_and_options([str(SUITE), "--include", "dra"]) == ([SUITE], ["--include", "dra"])


def test_value_of_an_option_is_not_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vars.yaml", "Output", "a b.robot"):
        (tmp_path / name).touch()
    for options in (
        ["--variablefile", "vars.yaml"],
        ["-V", "vars.yaml"],
        ["--name", "Output"],
        ["--name", ""],
        ["--argumentfile", "vars.yaml"],
        ["--dryrun", "--include", "vars.yaml", "--exclude", "vars.yaml"],
    ):
        assert suites_and_options(options) == ([PROJECT / "suites"], options)
        assert suites_and_options([*options, "a b.robot"]) == ([tmp_path / "a b.robot"], options)
    assert suites_and_options(["--VariableFile=vars.yaml", "-Xvx:1"])[1] == [
        "--variablefile", "vars.yaml", "-X", "-v", "x:1"
    ]  # fmt: skip


def test_every_option_of_robot_is_known_with_or_without_its_value(tmp_path: Path) -> None:
    """Read from the usage itself: ``--option value`` or ``--option``."""
    (value := tmp_path / "there").touch()
    found = re.findall(r"^ {1,4}(?:-\S )*(--\S{2,})( \S+)?", USAGE, re.MULTILINE)
    assert len(found) > 50
    for option, takes_value in found:
        options = [option, str(value)] if takes_value else [option]
        expected = ["--" + option.lower().replace("-", ""), *options[1:]]
        assert suites_and_options(options) == ([PROJECT / "suites"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "--colour", "red"], "option --colour not recognized; see: robot --help"),
        (["--", "--variablefile"], "option --variablefile requires argument; see: robot --help"),
        (["no.robot"], "expected files or folders of suites, found no.robot"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starts() -> None:
        raise AssertionError("it would start something")

    monkeypatch.setattr(prerequisites, "check", starts)
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err == f"acceptance: {message}\n"


def test_bad_topology_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nodes:\n  - name: Node_1\n    address: 192.168.122.211\n    numa: []\n")
    assert cli.main(["--topology", str(path), "--outputdir", str(tmp_path)]) == 1
    assert f"{path}:2: node name 'Node_1' is not a DNS label" in capsys.readouterr().err


def test_bad_driver_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: gpu.example.org\n")
    assert cli.main(["--driver", str(path), "--outputdir", str(tmp_path)]) == 1
    assert f"{path}:1: expected the key namespace, device-classes or pods" in capsys.readouterr().err


def test_rerun_without_failures_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--rerun", "--outputdir", str(tmp_path)]) == 1
    assert f"there is no {tmp_path}/output.xml; run: make acceptance" in capsys.readouterr().err


def test_more_clusters_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = CLUSTER
    needed = memory.needed(loaded)
    assert 3 << 30 < needed < 8 << 30
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2 * needed}))
    memory.check_memory([loaded], 2)
    with pytest.raises(StepError, match=r"3 clusters \(numa-cluster is the largest\) need .* GiB are available"):
        memory.check_memory([loaded], 3)


def test_pabot_takes_a_free_port_and_the_value_sets() -> None:
    argv = pabot_run.argv(3, Path("/r/sets.ini"), Path("/r/order"), {"POOL": "a/b"}, ["--include", "x", "suites"])
    options = " ".join(argv)
    assert options.startswith("setpriv --pdeathsig KILL unshare --pid --fork --kill-child=SIGKILL")
    assert "--processes 3 --pabotlibport 0 --resourcefile /r/sets.ini --ordering /r/order" in options
    assert options.endswith("--variable POOL:a/b --include x suites")


def test_suites_get_the_factor_of_time_outs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(timeouts.VARIABLE, raising=False)
    monkeypatch.setattr(timeouts, "_profile_factor", 2.5)
    command = ["sh", "-c", 'echo "$LAB_TIMEOUT_FACTOR" > factor']
    assert asyncio.run(pabot_run.run(command, tmp_path, asyncio.Event())) == 0
    assert (tmp_path / "factor").read_text() == "2.5\n"


def test_suites_with_the_most_tests_come_first(tmp_path: Path) -> None:
    tests = {"a_few": 2, "many": 3, "b_few": 2, "none": 0}
    for name, count in tests.items():
        cases = "".join(f"T{number}\n    Log    1\n" for number in range(count))
        (tmp_path / f"{name}.robot").write_text(f"*** Test Cases ***\n{cases}")
    root = tmp_path.name.title().replace("_", " ")
    expected = [f"--suite {root}.{name}" for name in ("Many", "A Few", "B Few")]
    assert pabot_run.order([tmp_path]).splitlines() == expected


def test_suites_that_take_minutes_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.robot").write_text("*** Test Cases ***\nFirst\n    Log    1\nSecond\n    Log    2\n")
    (tmp_path / "z.robot").write_text("*** Test Cases ***\nOnly\n    [Tags]    long\n    Log    1\n")
    root = tmp_path.name.title().replace("_", " ")
    assert pabot_run.order([tmp_path]).splitlines() == [f"--suite {root}.Z", f"--suite {root}.A"]


def test_suites_that_run_alone_come_last_one_by_one(tmp_path: Path) -> None:
    root = tmp_path.name.title().replace("_", " ")
    for name, tags in {"figures": "alone", "more_figures": "alone", "few": "long", "partly": ""}.items():
        first, second = (f"[Tags]    {item}\n    Log    1" for item in (tags, "alone"))
        (tmp_path / f"{name}.robot").write_text(f"*** Test Cases ***\nFirst\n    {first}\nSecond\n    {second}\n")
    lines = pabot_run.order([tmp_path]).splitlines()
    alone = ["#WAIT", f"--suite {root}.Figures", "#WAIT", f"--suite {root}.More Figures"]
    assert lines == [f"--suite {root}.Few", f"--suite {root}.Partly", *alone]
    assert pabot_run.order([tmp_path / "figures.robot"]) == "--suite Figures\n"
