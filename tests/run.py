"""Runs every check of the project; the last line is ``N passed, N failed``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mock_device.acceptance.report import SUMMARY, XUNIT, read_summary
from mock_device.lab.base import command_line, progress
from mock_device.lab.base.defaults import DEFAULT_TOPOLOGY
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import kbuild
from mock_device.lab.cluster import client

RESULTS = PROJECT / "results"
SOURCES = ["conftest.py", "libraries", "tests", "vfio-user", "dra-driver", "kernel-driver"]
ROBOT_SOURCES = ["suites", "resources", "docs/examples"]
ON_NODE = "control-plane-on-node"
"""Profile of a cluster whose control plane is on a node."""
SMALLEST = "single-node"
"""Topology of a cluster that starts soon."""
GO_DRIVER = "go-driver"
"""Driver that is not related to ours, in variables/drivers."""
CONFORMANCE = "conformance"
"""Tag of the suite that then runs on GO_DRIVER only: the other suites check the same of ours."""
LONG = "long"
"""Tag of suites that `make test` skips with fewer than four cores, so that it ends within a quarter of an hour."""
CORES_FOR_EVERYTHING = 4
"""Two cores without hardware virtualisation: suites/numa.robot takes 1 min 19 s alone, 8 min beside dense.robot."""
_REASON_CHARACTERS = 200
_END = 30
"""Seconds for a command to end after Ctrl-C, which it gets, too."""
PACKAGES = ["mock_device", "mock_accel_server", "mock_accel_dra", "unit", "support", "suites_notice", "bench", "kvm"]


@dataclass(frozen=True)
class Count:
    """Numbers of passed and failed checks."""

    passed: int = 0
    failed: int = 0
    failures: tuple[str, ...] = ()
    """What failed, a line each, for the end of the output."""

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.failures + other.failures)


def broken(name: str, why: str = "") -> Count:
    """A check that failed as a whole."""
    return Count(failed=1, failures=(f"{name}: {why}" if why else name,))


def failures(xunit: Path) -> tuple[str, ...]:
    """Failed tests in an xunit file of pytest or Robot Framework, each with the first line of its message."""
    found = []
    for test in ElementTree.parse(xunit).iter("testcase"):
        for outcome in [*test.iter("failure"), *test.iter("error")]:
            reason = (outcome.get("message") or outcome.text or "").strip().partition("\n")[0]
            found.append(f"{test.get('classname')} / {test.get('name')}: {reason[:_REASON_CHARACTERS]}")
    return tuple(found)


def command(name: str, *argv: str) -> Count:
    """Run a command as one check, decided by its exit code."""
    return Count(passed=1) if _run(name, argv) == 0 else broken(name)


def _run(name: str, argv: Sequence[str]) -> int:
    """Run a command as a step and return its exit code."""
    try:
        with progress.step(name, speaks=True):
            _call(argv)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _call(argv: Sequence[str]) -> None:
    """Like subprocess.run, but the command gets time to end its clusters after Ctrl-C."""
    with subprocess.Popen(argv, cwd=PROJECT) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_END)
            child.kill()
            raise
    if code:
        raise subprocess.CalledProcessError(code, argv)


def pytest(name: str, timeout: int, *selection: str) -> Count:
    """Run tests by pytest; a failed collection counts as one failure."""
    report = RESULTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pytest", "-q", f"--timeout={timeout}", f"--junit-xml={report}", *selection]
    code = _run(name, argv)
    if not report.exists():
        return broken(name, "pytest wrote no report")
    suite = next(ElementTree.parse(report).iter("testsuite"))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    passed = int(suite.get("tests", 0)) - failed - int(suite.get("skipped", 0))
    if code and not failed:
        return Count(passed) + broken(name, f"pytest ended with {code}")
    return Count(passed, failed, failures(report))


def suites() -> Count:
    """Run the acceptance suites with pabot on a pool of clusters."""
    enough = (os.cpu_count() or 1) >= CORES_FOR_EVERYTHING
    left_out = [] if enough else ["--", "--exclude", LONG, "--exclude", CONFORMANCE]
    return _suites("acceptance suites", RESULTS, ["--clusters", "2" if enough else "1", *left_out])


def suites_on_node() -> Count:
    """Run the suite with the basics on a cluster whose control plane is on a node."""
    argv = ["--clusters", "1", "--topology", DEFAULT_TOPOLOGY, "--profile", ON_NODE, "suites/environment.robot"]
    return _suites("suites with the control plane on a node", RESULTS / ON_NODE, argv)


def other_driver() -> Count:
    """Run what Kubernetes expects of any driver on the example in Go, except what restarts something or waits long."""
    argv = ["--clusters", "1", "--topology", SMALLEST, "--driver", GO_DRIVER, "suites/conformance.robot"]
    return _suites("conformance of the driver in Go", RESULTS / GO_DRIVER, [*argv, "--", "--exclude", LONG])


def _suites(name: str, folder: Path, argv: Sequence[str]) -> Count:
    """Run suites by the command ``acceptance``, with the results in ``folder``."""
    (folder / SUMMARY).unlink(missing_ok=True)
    _run(name, [sys.executable, "-m", "mock_device.acceptance.cli", "--outputdir", str(folder), *argv])
    summary = read_summary(folder)
    if summary is None:
        return broken(name, "they wrote no summary")
    lost = tuple(f"{suite}: its process ended without a result" for suite in summary.lost)
    return Count(summary.passed, summary.failed, failures(folder / XUNIT) + lost)


def lint() -> Count:
    """Check style, types and imports."""
    python = sys.executable
    return (
        command("ruff check", python, "-m", "ruff", "check", *SOURCES)
        + command("ruff format", python, "-m", "ruff", "format", "--check", *SOURCES)
        + command("mypy", python, "-m", "mypy", *_typed())
        + command("mypy: tests of the module", python, "-m", "mypy", "kernel-driver/tests")
        + command("mypy: tests of the driver", python, "-m", "mypy", "dra-driver/tests")
        + command("mypy: tests of the device server", python, "-m", "mypy", "vfio-user/tests")
        + command("imports between packages", str(Path(python).with_name("lint-imports")), "--no-cache")
        + command("robocop check", python, "-m", "robocop", "check", *ROBOT_SOURCES)
        + command("robocop format", python, "-m", "robocop", "format", "--check", *ROBOT_SOURCES)
    )


def _typed() -> Iterator[str]:
    """Arguments of mypy: all packages, keyword classes, and tests."""
    for package in PACKAGES:
        yield from ("-p", package)
    for folder in ("libraries", "tests"):
        for path in sorted((PROJECT / folder).glob("*.py")):
            yield from ("-m", path.stem)


def fast() -> Count:
    """Run the unit tests that boot nothing, in parallel: many of them wait."""
    workers = str(2 * (os.cpu_count() or 1))
    return pytest("unit tests", 120, "-m", "not slow and not acceptance", "-n", workers, "--dist", "worksteal")


def unit() -> Count:
    """Run all tests that need no cluster; some boot a control plane or a single guest."""
    return fast() + pytest("slow unit tests", 300, "-m", "slow and not acceptance")


def module() -> Count:
    """Check the kernel module by ``checkpatch.pl --strict``, ``sparse``, and ``make W=1`` for each kernel."""
    counts = Count()
    for name, check in kbuild.CHECKS.items():
        with progress.step(f"kernel module: {name}"):
            try:
                check()
            except StepError as error:
                print(error)
                counts += broken(f"kernel module: {name}")
            else:
                counts += Count(passed=1)
    return counts


def acceptance() -> Count:
    """The suites on a pool, then the tests that break a cluster and expect the suites to fail."""
    counts = suites() + suites_on_node() + other_driver()
    try:
        with progress.step("cluster for the tests of the suites"):
            cluster = client.default("make test")
    except StepError as error:
        print(error)
        return counts + broken("cluster for the tests of the suites", str(error).partition("\n")[0])
    try:
        return counts + pytest("tests of the suites", 1200, "-m", "acceptance", "tests/suites_notice")
    finally:
        cluster.release()


CHECKS: dict[str, Callable[[], Count]] = {"lint": lint, "module": module, "unit": unit, "acceptance": acceptance}
EXTRA: dict[str, Callable[[], Count]] = {"unit-fast": fast}
"""Parts of other checks, which run only if they are named."""


@click.command("test", context_settings=command_line.SETTINGS)
@click.option(
    "--only", type=click.Choice([*CHECKS, *EXTRA]), multiple=True, help="Run just this part; repeat it for several."
)
def check(only: Sequence[str]) -> int:
    """Run every check of the project, or the named parts; the last line counts them."""
    RESULTS.mkdir(exist_ok=True)
    counts = {}
    for name in only or CHECKS:
        counts[name] = {**CHECKS, **EXTRA}[name]()
        progress.say(f"{name}\t{counts[name].passed} passed\t{counts[name].failed} failed")
    total = sum(counts.values(), Count())
    for failure in total.failures:
        print(f"failed: {failure}")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 1 if total.failed or not total.passed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks, or those named by ``--only``; exit code 1 when anything failed, 130 after Ctrl-C."""
    return command_line.run(check, argv, interrupted="interrupted; not everything ran")


if __name__ == "__main__":
    sys.exit(main())
