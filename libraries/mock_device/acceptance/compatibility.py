"""Which suites pass on which version of Kubernetes: a table for the documentation, from the results of runs.

Every suite notes in its metadata which release its cluster ran, so that a result counts for no other version.
What was recorded of a suite on a version is replaced when it ran on that version again; the rest stays.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from robot.api import ExecutionResult
from robot.errors import DataError
from robot.result import TestSuite

from mock_device.acceptance import history
from mock_device.lab.base import command_line
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.typed_json import read_typed

RELEASE = "Kubernetes"
"""Metadata of a suite: the release that its cluster ran."""
RECORD = PROJECT / "docs" / "compatibility.json"
PAGE = RECORD.with_suffix(".md")
NOT_RUN = "not run yet"
_HEAD = """\
# Kubernetes versions

Which suites pass on which version, as the runs recorded it in [compatibility.json](compatibility.json). This page is
written by a run: `make compatibility` reads the results of `make nightly`
([how](nightly.md#versions-of-kubernetes)). A test that needs a later version is skipped by its tag `since-…`.
"""


@dataclass(frozen=True)
class SuiteResult:
    """A suite on one version of Kubernetes, in all rounds of a run."""

    release: str
    commit: str
    date: str
    """ISO 8601, of the day on which it was recorded."""
    passed: int
    """Tests that never failed, and were not always skipped."""
    failed: list[str] = field(default_factory=list)
    """Names of tests that failed in a round."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Reason by the names of tests that were skipped in all rounds."""

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        parts += [f"{len(self.failed)} failed"] * bool(self.failed)
        parts += [f"{len(self.skipped)} skipped"] * bool(self.skipped)
        return ", ".join(parts)


@dataclass(frozen=True)
class Record:
    """All recorded results: by version (``v1.36``), then by the suite's name."""

    versions: dict[str, dict[str, SuiteResult]] = field(default_factory=dict)


def read_results(outputs: Iterable[Path], commit: str, date: str) -> Record:
    """Results in the files ``outputs`` (Robot Framework's output.xml). Raises StepError for an unreadable one."""
    tests: dict[tuple[str, str, str], dict[str, list[tuple[str, str]]]] = {}
    for path in outputs:
        for version, release, suite in _suites(path):
            found = tests.setdefault((version, release, suite.name), {})
            for test in suite.tests:
                found.setdefault(test.name, []).append((test.status, test.message))
    record = Record()
    for (version, release, suite_name), found in tests.items():
        record.versions.setdefault(version, {})[suite_name] = _result(release, commit, date, found)
    return record


def _suites(path: Path) -> Iterator[tuple[str, str, TestSuite]]:
    """Suites with tests that had a cluster of one of the lab's versions: version, release, and results."""
    try:
        waiting = [ExecutionResult(str(path)).suite]
    except (DataError, OSError) as error:
        raise StepError(f"{path}: expected an output file of Robot Framework: {error}") from error
    while waiting:
        suite = waiting.pop(0)
        waiting[:0] = suite.suites
        release = suite.metadata.get(RELEASE, "")
        version = KubernetesVersion.of(release)
        if version and suite.tests:
            yield version.value, release, suite


def _result(release: str, commit: str, date: str, tests: Mapping[str, Sequence[tuple[str, str]]]) -> SuiteResult:
    failed = [name for name, ends in tests.items() if any(status == "FAIL" for status, _ in ends)]
    skipped = {name: ends[0][1] for name, ends in tests.items() if all(status == "SKIP" for status, _ in ends)}
    return SuiteResult(release, commit, date, len(tests) - len(failed) - len(skipped), failed, skipped)


def merged(old: Record, new: Record) -> Record:
    """``old`` with the results of ``new`` in place of those of the same suite and version."""
    versions = [version.value for version in KubernetesVersion]
    found = {version: old.versions.get(version, {}) | new.versions.get(version, {}) for version in versions}
    return Record({version: results for version, results in found.items() if results})


def page(record: Record) -> str:
    """The documentation's page (Markdown) for ``record``."""
    versions = [version.value for version in KubernetesVersion]
    suites = sorted({name for results in record.versions.values() for name in results})
    rows = [["suite", *versions], ["---"] * (len(versions) + 1)]
    rows += [[name, *(_cell(record, version, name) for version in versions)] for name in suites]
    if not suites:
        rows.append(["all", *[NOT_RUN] * len(versions)])
    parts = [_HEAD, "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n", _runs(record), _notes(record)]
    return "\n".join(part for part in parts if part)


def _cell(record: Record, version: str, suite: str) -> str:
    result = record.versions.get(version, {}).get(suite)
    return str(result) if result else NOT_RUN


def _runs(record: Record) -> str:
    """From which commit and day each version's results are."""
    rows = []
    for version, results in record.versions.items():
        for release, commit, date in sorted({(item.release, item.commit, item.date) for item in results.values()}):
            suites = sum((item.release, item.commit, item.date) == (release, commit, date) for item in results.values())
            rows.append(f"| {version} | {release} | {suites} | `{commit[:12]}` | {date} |")
    head = "| version | release | suites | commit | date |\n| --- | --- | --- | --- | --- |\n"
    return f"## Runs\n\n{head}" + "\n".join(rows) + "\n" if rows else ""


def _notes(record: Record) -> str:
    """Tests that failed, and why others were skipped."""
    lines = []
    for version, results in record.versions.items():
        for suite, result in sorted(results.items()):
            lines += [f"- {version}, {suite}: **{name}** failed" for name in result.failed]
            lines += [f"- {version}, {suite}: {name}: {_one_line(why)}" for name, why in result.skipped.items()]
    return "## Failed and skipped tests\n\n" + "\n".join(lines) + "\n" if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def load(path: Path) -> Record:
    """The recorded results; none if nothing was recorded. Raises StepError for a damaged file."""
    try:
        return read_typed(Record, path)
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError) as error:
        raise StepError(f"{path}: expected recorded results: {error}; take it from git again") from error


def save(record: Record, path: Path) -> None:
    """Write ``record``, and the page for it beside it."""
    write_file(path, json.dumps(asdict(record), indent=1) + "\n")
    write_file(path.with_suffix(".md"), page(record))


@click.command(context_settings=command_line.SETTINGS)
@click.argument("outputs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def compatibility(outputs: Sequence[Path]) -> None:
    """Record the results of OUTPUTS, files output.xml of runs of this checkout, and write docs/compatibility.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    new = read_results(outputs, history.commit(), today)
    if not new.versions:
        raise StepError(f"expected suites that ran on a cluster of Kubernetes, found none in {len(outputs)} files")
    save(merged(load(RECORD), new), RECORD)
    for version, results in new.versions.items():
        for suite, result in results.items():
            print(f"{version}\t{suite}\t{result}")


def main(argv: Sequence[str] | None = None) -> int:
    """Record results; exit code 1 for a step that failed, 2 for bad usage."""
    return command_line.run(compatibility, argv)


if __name__ == "__main__":
    sys.exit(main())
