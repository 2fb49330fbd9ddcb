"""``make kubernetes-e2e``: what it asks ginkgo for, its progress, its bounds and its exit code."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mock_device.acceptance import ginkgo_report
from mock_device.acceptance import kubernetes_e2e as command
from mock_device.acceptance.ginkgo_report import Report, State, Test
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import kubernetes_e2e
from mock_device.lab.cluster import client
from mock_device.lab.kube import features, kubeclient
from mock_device.lab.kube.features import Gate, Offered

RECORD = PROJECT / "tests/support/data/e2e/ginkgo.json"
FAILING = ["must retry NodePrepareResources", "panics", "cleans up", "hangs"]
KUBELET = "[sig-node] [DRA] kubelet [Feature:DynamicResourceAllocation]"


def test_gates_are_those_that_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = {name: Gate(name, "beta", on) for name, on in {"A": True, "B": False}.items()}
    monkeypatch.setattr(features, "read", lambda _: Offered("v1.37.2", gates))
    monkeypatch.setattr(kubeclient, "connect", lambda _: None)
    cluster: Any = SimpleNamespace(kubeconfig=Path("/k"))
    assert command.feature_gates(cluster) == {"A"}


def test_filter_selects_tests_whose_gates_are_all_on() -> None:
    tests = [Test(name, State.PASSED, 0.0, labels=(f"FeatureGate:{name}", "DRA")) for name in "ABC"]
    assert command.label_filter(tests, frozenset("CAZ")) == "FeatureGate: isSubsetOf {A, C}"
    assert command.label_filter(tests, frozenset("Z")) == "FeatureGate: isEmpty"


def test_ginkgo_gets_its_bounds_and_the_suite_its_cluster(tmp_path: Path) -> None:
    argv = command.suite_command(Path("/p"), tmp_path, Path("/k"), ["--focus=a b"], processes=3, minutes=90)
    assert argv[3:5] == ["/p/ginkgo", "run"]
    ginkgo, suite = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    assert {"--focus=a b", "--procs=3", "--timeout=90m", f"--output-dir={tmp_path}"} <= set(ginkgo)
    assert ginkgo[-1] == "/p/dra-e2e.test"
    assert suite == ["--kubeconfig=/k", f"--progress-file={tmp_path / 'progress.jsonl'}"]


def test_progress_is_said_once_and_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    watcher = command.Watcher(path)
    assert watcher.look() == []
    path.write_text('{"planned": 2}\n{"name": "a", "state": "passed", "seconds": 1.6}\n{"name": "b", ')
    assert watcher.look() == ["  2 tests", "  1/2 passed (2 s) a"]
    assert watcher.look() == []
    with path.open("a") as file:
        file.write('"state": "failed", "seconds": 0}\n')
    assert watcher.look() == ["  2/2 failed (0 s) b"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise SystemExit(0)", ""),
        ("raise SystemExit(1)", ""),
        ("raise SystemExit(2)", "ginkgo ended with 2"),
        ("import time; time.sleep(60)", "ginkgo did not end within 0 min"),
    ],
)
def test_ginkgo_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str) -> None:
    monkeypatch.setattr(command, "_LOOK", 0.05)
    seconds = 0.2 if "sleep" in code else 60
    assert command.run_suite([sys.executable, "-c", code], tmp_path, seconds) == problem


def test_ctrl_c_lets_the_tests_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n    pathlib.Path(sys.argv[1]).write_text('clean'); sys.exit(1)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('{\"planned\": 1}', file=open(sys.argv[2], 'w'), flush=True)\n"
        "time.sleep(60)\n"
    )

    def interrupted(_: str) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "_LOOK", 0.05)
    monkeypatch.setattr("mock_device.lab.base.progress.say", interrupted)
    argv = [sys.executable, "-c", code, str(tmp_path / "end"), str(tmp_path / "progress.jsonl")]
    # Shells start background processes with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            command.run_suite(argv, tmp_path, 60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "end").read_text() == "clean"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Run the command on a cluster that does not exist; ginkgo leaves the record. Exit code and result as JSON."""
    released: list[str] = []
    cluster = SimpleNamespace(
        name="default",
        topology=SimpleNamespace(name="numa-cluster"),
        kubeconfig=Path("/k"),
        release=lambda: released.append("default"),
    )
    folder = tmp_path / "results"

    def leave_report(*_: object, **__: object) -> bytes:
        shutil.copy(RECORD, folder / "ginkgo.json")
        return b""

    def run_suite(*_: object) -> str:
        leave_report()
        return ""

    monkeypatch.setattr(kubernetes_e2e, "build_programs", lambda: Path("/p"))
    monkeypatch.setattr(command, "run", leave_report)
    monkeypatch.setattr(command, "run_suite", run_suite)
    monkeypatch.setattr(command, "load_images", lambda _: None)
    monkeypatch.setattr(command, "feature_gates", lambda _: frozenset())
    monkeypatch.setattr(client, "borrow", lambda *_, **__: cluster)

    def with_known(*tests: str, message: str = ".") -> tuple[int, dict[str, Any]]:
        known = tmp_path / "failures.yaml"
        entry = {"message": message, "cause": "ours", "reason": "r", "reference": "docs"}
        failures = [{"test": f"{KUBELET} {test}", **entry} for test in tests]
        known.write_text(yaml.safe_dump({"kubernetes": "v1.37.2", "failures": failures}))
        code = command.main(["--failures", str(known), "--outputdir", str(folder)])
        assert released or code
        found = folder / "tests.json"
        return code, json.loads(found.read_text()) if found.exists() else {}

    return with_known


def test_unknown_failures_are_red(run: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, found = run(*FAILING[1:])
    assert code == 1
    unknown = [test["test"] for test in found["tests"] if test["verdict"] == "unknown failure"]
    assert unknown == [f"{KUBELET} must retry NodePrepareResources"]


def test_known_failures_are_not_red(run: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, found = run(*FAILING)
    assert code == 0
    assert [test["verdict"] for test in found["tests"]].count("fails: ours") == len(FAILING)


def test_known_failures_with_another_message_are_red(run: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    assert run(*FAILING, message="^something else$")[0] == 1


def test_a_failure_that_passes_now_is_reported(run: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    code, found = run("registers plugin", *FAILING)
    assert code == 0
    assert [test["test"] for test in found["tests"] if test["verdict"] == "passes now"] == [
        f"{KUBELET} registers plugin"
    ]


def test_a_list_with_a_test_that_is_gone_is_an_error(
    run: Callable[..., tuple[int, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("registers a plugin") == (1, {})
    assert "expected names of tests of Kubernetes v1.37" in capsys.readouterr().err


def test_ginkgo_without_a_report_is_an_error(
    run: Callable[..., tuple[int, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "run_suite", lambda *_: "ginkgo ended with 7")
    assert run(*FAILING) == (1, {})
    assert "the tests left no report: ginkgo ended with 7" in capsys.readouterr().err


def test_nothing_that_ran_is_red(
    run: Callable[..., tuple[int, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ginkgo_report.read

    def without_results(path: Path) -> object:
        report = read(path)
        tests = tuple(test for test in report.tests if test.state is State.NOT_RUN)
        return Report(tests, report.seconds)

    monkeypatch.setattr(ginkgo_report, "read", without_results)
    code, found = run()
    assert code == 1
    assert found["problems"] == ["no test ran; look at --focus and --skip"]


def test_ginkgo_may_clean_up_before_it_is_killed(tmp_path: Path) -> None:
    argv = command.suite_command(Path("/p"), tmp_path, Path("/k"), [], processes=1, minutes=1)
    (grace,) = (item for item in argv if item.startswith("--grace-period="))
    assert float(grace.removeprefix("--grace-period=").rstrip("s")) < Timeout.E2E_END.seconds
