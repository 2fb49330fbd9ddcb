"""What a run of Kubernetes' own tests leaves: tables, and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mock_device.acceptance.known_failures import Judged, Verdict
from mock_device.lab.base.files import write_file
from mock_device.lab.base.tables import Note, Table, to_json

TABLE = "tests.tsv"
RED = frozenset({Verdict.UNKNOWN})
"""Verdicts that make the command fail; so do problems of the run."""
_QUIET = frozenset({Verdict.PASSED, Verdict.NOT_RUN, Verdict.SKIPPED})
"""Verdicts whose tests are counted, but not listed on the terminal."""
_STYLES = {
    Verdict.UNKNOWN.value: "red",
    Verdict.OURS.value.partition(":")[0]: "yellow",
    Verdict.FIXED.value: "green",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
td, th {{ border-bottom: 1px solid #ccc; padding: 0.3em 0.8em 0.3em 0; text-align: left; vertical-align: top; }}
.unknown {{ color: #b00; }} .fails {{ color: #850; }} .passed, .passes {{ color: #060; }}
.not, .skipped {{ color: #666; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{problems}<table>
<tr><th>verdict</th><th>seconds</th><th>test</th><th>reason</th><th>reference</th></tr>
{rows}
</table>
</html>
"""


@dataclass(frozen=True)
class Run:
    """A run of the tests."""

    kubernetes: str
    """Version of the tests, such as ``v1.37.2``."""
    cluster: str
    topology: str
    seconds: float
    tests: tuple[Judged, ...]
    problems: tuple[str, ...]
    """Why it is incomplete; empty if it is complete."""

    @property
    def red(self) -> bool:
        """Whether something failed that nobody has explained."""
        return bool(self.problems) or any(test.verdict in RED for test in self.tests)

    def counts(self) -> dict[Verdict, int]:
        """Number of tests by verdict, in the order of the verdicts; without zeros."""
        counted = Counter(test.verdict for test in self.tests)
        return {verdict: counted[verdict] for verdict in Verdict if counted[verdict]}


def as_table(tests: Sequence[Judged]) -> Table:
    """One row per test."""
    rows = [(test.verdict.value, f"{test.seconds:.0f}", test.test, test.reason, test.reference) for test in tests]
    return Table(
        ("verdict", "seconds", "test", "reason", "reference"),
        rows,
        right=("seconds",),
        wraps=("test", "reason", "reference"),
        styles=_STYLES,
    )


def tables(run: Run, folder: Path) -> list[Table]:
    """What the command prints: the tests that are not simply passed or left out, problems, and counts."""
    listed = [test for test in run.tests if test.verdict not in _QUIET]
    notes = [Note("problem", problem) for problem in run.problems]
    notes += [Note(verdict.value, str(number)) for verdict, number in run.counts().items()]
    notes += [
        Note("kubernetes", run.kubernetes),
        Note("duration", f"{run.seconds / 60:.0f} min"),
        Note("all tests", str(folder / TABLE)),
    ]
    return [*([as_table(listed)] if listed else []), Table((), notes)]


def write(run: Run, folder: Path) -> None:
    """Write ``tests.tsv``, ``tests.json`` and ``tests.html`` into ``folder``."""
    file = folder / TABLE
    write_file(file, as_table(run.tests).as_text() + "\n")
    write_file(file.with_suffix(".json"), to_json(run) + "\n")
    write_file(file.with_suffix(".html"), page(run))


def page(run: Run) -> str:
    """The run as HTML."""
    summary = ", ".join(f"{number} {verdict.value}" for verdict, number in run.counts().items())
    where = f"cluster {run.cluster} ({run.topology}), {run.seconds / 60:.0f} min"
    problems = "".join(f'<p class="unknown">{escape(problem)}</p>\n' for problem in run.problems)
    return _PAGE.format(
        title=f"Kubernetes {escape(run.kubernetes)}: its own tests of DRA",
        summary=escape(f"{summary}; {where}"),
        problems=problems,
        rows="\n".join(map(_row, run.tests)),
    )


def _row(test: Judged) -> str:
    kind = test.verdict.value.split()[0].rstrip(":")
    reference = escape(test.reference)
    if test.reference.startswith("https://"):
        reference = f'<a href="{reference}">{reference}</a>'
    cells = [test.verdict.value, f"{test.seconds:.0f}", test.test, test.reason]
    return f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td>{reference}</td></tr>"
