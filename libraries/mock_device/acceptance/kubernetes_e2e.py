"""Runs Kubernetes' own tests of DRA (``k8s.io/kubernetes/test/e2e/dra``) on a cluster, and judges their failures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from mock_device.acceptance import e2e_results, ginkgo_report, known_failures
from mock_device.acceptance.e2e_results import Run
from mock_device.acceptance.ginkgo_report import Report, State, Test
from mock_device.commands import options
from mock_device.lab.base import command_line, progress
from mock_device.lab.base.commands import interrupt, run
from mock_device.lab.base.defaults import DEFAULT_TOPOLOGY
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import print_tables, to_json
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import gobuild, kubernetes_e2e
from mock_device.lab.cluster import client, image_loading
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.kube import features, kubeclient

NAME = "kubernetes-e2e"
REPORT = "ginkgo.json"
_JUNIT = "junit.xml"
_LOG = "ginkgo.log"
_PROGRESS = "progress.jsonl"
_LOOK = 1.0
"""Seconds between two looks at the progress."""
_FAILED_TESTS = 1
"""Exit code of ginkgo when tests failed or its time was over; it has written a report."""


def label_filter(tests: Sequence[Test], on: frozenset[str]) -> str:
    """ginkgo's label filter of the tests whose feature gates are all on."""
    known = sorted({gate for test in tests for gate in test.gates} & on)
    # ginkgo refuses an empty set.
    return f"FeatureGate: isSubsetOf {{{', '.join(known)}}}" if known else "FeatureGate: isEmpty"


def suite_command(
    programs: Path, folder: Path, kubeconfig: Path, selection: Sequence[str], *, processes: int, minutes: float
) -> list[str]:
    """Command line of ginkgo, whose reports go to ``folder``; ``selection`` are its options that choose tests."""
    # The kernel ends it when this process is killed.
    argv = ["setpriv", "--pdeathsig", "INT", str(programs / kubernetes_e2e.GINKGO), "run"]
    argv += ["--no-color", "--silence-skips", "-v", *selection]
    argv += [f"--procs={processes}", f"--timeout={minutes:g}m", f"--grace-period={Timeout.E2E_END.seconds / 2:g}s"]
    argv += [f"--json-report={REPORT}", f"--junit-report={_JUNIT}", f"--output-dir={folder}"]
    suite = [f"--kubeconfig={kubeconfig}", f"--progress-file={folder / _PROGRESS}"]
    return [*argv, str(programs / kubernetes_e2e.SUITE), "--", *suite]


def all_tests(programs: Path, folder: Path) -> Report:
    """All tests of the suite, none of which runs. Raises StepError."""
    argv = [
        str(programs / kubernetes_e2e.GINKGO),
        "run",
        "--dry-run",
        "--no-color",
        "--silence-skips",
        "--label-filter=DRA",
    ]
    argv += [f"--json-report={REPORT}", f"--output-dir={folder}", str(programs / kubernetes_e2e.SUITE)]
    run(argv, log=folder / _LOG, timeout=Timeout.E2E_ANSWER.seconds)
    return ginkgo_report.read(folder / REPORT)


class Watcher:
    """Says how far the tests are, by the lines that they append to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._planned = 0
        self._ended = 0

    def look(self) -> list[str]:
        """What has happened since the last look, a line each."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            complete = file.read().rpartition(b"\n")[0]
        if not complete:
            return []
        self._read += len(complete) + 1
        return [said for line in complete.splitlines() if (said := self._said(json.loads(line)))]

    def _said(self, line: dict[str, str | int | float]) -> str:
        if "planned" in line:
            self._planned = int(line["planned"])
            return f"  {self._planned} tests"
        self._ended += 1
        return f"  {self._ended}/{self._planned} {line['state']} ({line['seconds']:.0f} s) {line['name']}"


def run_suite(argv: Sequence[str], folder: Path, seconds: float) -> str:
    """Run ginkgo for at most ``seconds``, with its output in ``folder``; why it ended without a report, else empty.

    Raises KeyboardInterrupt after Ctrl-C, when the tests have cleaned up.
    """
    watcher = Watcher(folder / _PROGRESS)
    deadline = time.monotonic() + seconds
    with (folder / _LOG).open("ab") as output:
        # In a session of its own: a second Ctrl-C, which the terminal would send, ends ginkgo without cleaning up.
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        late = False
        try:
            while child.poll() is None and not late:
                try:
                    child.wait(_LOOK)
                except subprocess.TimeoutExpired:
                    late = time.monotonic() > deadline
                for line in watcher.look():
                    progress.say(line)
        finally:
            interrupt(child, Timeout.E2E_END.seconds)
    if late:
        return f"ginkgo did not end within {seconds / 60:.0f} min"
    if child.returncode not in (0, _FAILED_TESTS):
        return f"ginkgo ended with {child.returncode}"
    return ""


def load_images(cluster: Cluster) -> None:
    """Put the images of the tests on all nodes. Raises StepError."""
    for image in kubernetes_e2e.build_images():
        image_loading.load(cluster, image.archive, image.name)


def feature_gates(cluster: Cluster) -> frozenset[str]:
    """Feature gates that are on in ``cluster``. Raises StepError."""
    gates = features.read(kubeclient.connect(cluster.kubeconfig)).gates
    return frozenset(name for name, gate in gates.items() if gate.enabled)


@click.command(NAME, context_settings=command_line.SETTINGS)
@click.option("--focus", multiple=True, metavar="REGEX", help="Only tests whose name matches; repeat it for several.")
@click.option("--skip", multiple=True, metavar="REGEX", help="No test whose name matches; repeat it for several.")
@click.option(
    "--processes", type=options.number(1), default=3, metavar="N", help="Tests that run at once (default: 3)."
)
@click.option(
    "--failures",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=known_failures.KUBERNETES_E2E,
    metavar="FILE",
    help="Failures that are known (default: variables/failures/kubernetes-e2e.yaml).",
)
@options.topologies(default=DEFAULT_TOPOLOGY)
@options.profile
@options.minutes_of_a_round
@options.outputdir(PROJECT / "results" / NAME)
@options.as_json("Print the result as JSON.")
def kubernetes_e2e_command(
    focus: Sequence[str],
    skip: Sequence[str],
    processes: int,
    failures: Path,
    topology: str | None,
    profile: str,
    minutes: float,
    outputdir: Path,
    as_json: bool,
) -> int:
    """Run Kubernetes' own tests of DRA on the running cluster, or on one that is started for them.

    A failure that the list of known failures does not explain makes the exit code 1.
    """
    known = known_failures.load(failures)
    folder = outputdir.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    programs = kubernetes_e2e.build_programs()
    tests = all_tests(programs, folder).tests
    if gone := known_failures.unknown_tests(known, [test.name for test in tests]):
        raise StepError(
            f"{failures}: expected names of tests of Kubernetes {gobuild.kubernetes_version()}, found {gone}"
        )
    selection = [*(f"--focus={item}" for item in focus), *(f"--skip={item}" for item in skip)]
    cluster = client.borrow(topology or DEFAULT_TOPOLOGY, who=f"make {NAME}", profile=profile)
    try:
        result = _on(cluster, programs, tests, selection, folder, known, processes=processes, minutes=minutes)
    finally:
        cluster.release()
    e2e_results.write(result, folder)
    if as_json:
        print(to_json(result))
    else:
        print_tables(*e2e_results.tables(result, folder), between="\n\n")
    return command_line.FAILED if result.red else 0


def _on(
    cluster: Cluster,
    programs: Path,
    tests: Sequence[Test],
    selection: Sequence[str],
    folder: Path,
    known: known_failures.KnownFailures,
    *,
    processes: int,
    minutes: float,
) -> Run:
    """Run the tests on ``cluster``."""
    with progress.step("images of the tests on all nodes"):
        load_images(cluster)
    on = feature_gates(cluster)
    chosen = [f"--label-filter=DRA && !Flaky && {label_filter(tests, on)}", *selection]
    argv = suite_command(programs, folder, cluster.kubeconfig, chosen, processes=processes, minutes=minutes)
    # The report of the dry run must not stand for this one.
    (folder / REPORT).unlink()
    with progress.step(f"Kubernetes' own tests of DRA, {processes} at once", folder / _LOG, speaks=True):
        problem = run_suite(argv, folder, minutes * 60 + Timeout.E2E_END.seconds)
    if not (folder / REPORT).is_file():
        raise StepError(f"the tests left no report: {problem or 'ginkgo ended without it'}", folder / _LOG)
    try:
        report = ginkgo_report.read(folder / REPORT)
    except StepError as error:
        raise StepError(str(error), folder / _LOG) from error
    problems = [*report.problems, *([problem] if problem else [])]
    if not any(test.state in (State.PASSED, State.FAILED) for test in report.tests):
        problems.append("no test ran; look at --focus and --skip")
    judged = known_failures.judge(report.tests, known, on)
    return Run(
        kubernetes=gobuild.kubernetes_version(),
        cluster=cluster.name,
        topology=cluster.topology.name,
        seconds=report.seconds,
        tests=tuple(judged),
        problems=tuple(problems),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests; exit code 1 for unknown failures and steps that fail, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(kubernetes_e2e_command, argv)


if __name__ == "__main__":
    sys.exit(main())
