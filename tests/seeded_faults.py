"""Seeds every fault of the catalogue into a running system, one after the other, and shows which test noticed each.

The catalogue is ``tests/suites_notice/faults.yaml``.
"""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from suites_notice.seeding import catalogue
from suites_notice.seeding.catalogue import PARTS, Fault, Verdict
from suites_notice.seeding.seeder import environment
from suites_notice.seeding.trial import Trial

from mock_device.lab.base import command_line, progress, tables
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import client
from mock_device.lab.cluster.guest_cluster import GuestCluster
from mock_device.lab.cluster.launcher import RUN_PREFIX

_STYLES = {"right test": "green", "wrong test": "red", "none": "red", "no verdict": "red"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    fault: str
    part: str
    caught_by: str
    suite: str
    test: str
    reason: str


class Worker(threading.Thread):
    """Tries faults on one cluster; replaces the cluster after a fault that could not be removed."""

    def __init__(self, number: int, faults: queue.SimpleQueue[Fault], found: dict[str, Verdict], folder: Path) -> None:
        super().__init__(name=f"cluster {number}", daemon=True)
        self._cluster_name = f"{RUN_PREFIX}seeded-{os.getpid()}-{number}"
        self._faults = faults
        self._found = found
        self._folder = folder
        self._cluster: GuestCluster | None = None
        self._trial: Trial | None = None
        self.failure = ""
        """Why it ended before the faults did."""

    def run(self) -> None:
        try:
            while True:
                fault = self._faults.get_nowait()
                self._try(fault)
        except queue.Empty:
            pass
        except StepError as error:
            self.failure = str(error)
        finally:
            self._release()

    def _try(self, fault: Fault) -> None:
        if self._cluster is None:
            with progress.one_line(f"cluster {self._cluster_name}"):
                self._cluster = client.up(name=self._cluster_name, who="seeded faults")
        with progress.one_line(f"{fault.name}: {fault.defect}"):
            self._trial = Trial(fault, self._cluster, self._folder)
            verdict = self._trial.verdict()
        self._found[fault.name] = verdict
        progress.say(f"{fault.name}\t{verdict.caught_by}\t{_one_line(verdict.reason)}")
        if verdict.caught_by == "no verdict":
            self._release()

    def cancel(self) -> None:
        """End the tests that run; the cluster ends with this process."""
        if self._trial:
            self._trial.cancel()

    def _release(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster:
            cluster.release()


def rows(faults: Sequence[Fault], found: dict[str, Verdict]) -> list[Row]:
    """The table's lines; a fault that was not tried is left out."""
    verdicts = [found[fault.name] for fault in faults if fault.name in found]
    return [
        Row(one.fault.name, one.fault.part, one.caught_by, one.fault.suite, one.fault.test, _one_line(one.reason))
        for one in verdicts
    ]


def table(found: Sequence[Row]) -> tables.Table:
    """The table of ``rows``, with the number of faults that the right test caught."""
    right = sum(row.caught_by == "right test" for row in found)
    cells = [(row.fault, row.part, row.caught_by, row.suite, row.test, row.reason) for row in found]
    return tables.Table(
        ("fault", "part", "caught by", "suite", "test", "message"),
        [*cells, tables.Note("caught by the right test", f"{right} of {len(found)}")],
        wraps=("message", "test"),
        styles=_STYLES,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


@click.command("seeded-faults", context_settings=command_line.SETTINGS)
@click.option("--clusters", type=click.IntRange(1, 8), default=1, show_default=True, help="Clusters side by side.")
@click.option("--fault", "names", multiple=True, metavar="NAME", help="Only this fault; repeat it for several.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only faults of this part.")
@click.option("--list", "listing", is_flag=True, help="Only list the faults.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def seeded_faults(clusters: int, names: Sequence[str], parts: Sequence[str], listing: bool, as_json: bool) -> int:
    """Seed faults into running clusters; exit code 1 unless the right test notices each."""
    faults = catalogue.load()
    if unknown := set(names) - {fault.name for fault in faults}:
        raise click.UsageError(f"no fault {', '.join(sorted(unknown))}; see --list")
    faults = [fault for fault in faults if (not names or fault.name in names) and (not parts or fault.part in parts)]
    if listing:
        shown = tables.Table(
            ("fault", "part", "defect", "suite", "test"),
            [(fault.name, fault.part, fault.defect, fault.suite, fault.test) for fault in faults],
        )
        tables.print_tables(shown)
        return 0
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        waiting.put(fault)
    found: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="seeded-faults-") as folder:
        # Inherited by the clusters' device servers.
        os.environ |= environment(Path(folder))
        workers = [Worker(number, waiting, found, Path(folder)) for number in range(1, clusters + 1)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            for worker in workers:
                worker.cancel()
            raise
    result = rows(faults, found)
    tables.show(result, table, as_json=as_json)
    for failure in filter(None, (worker.failure for worker in workers)):
        print(f"error: {failure}", file=sys.stderr)
    return 0 if len(result) == len(faults) and all(row.caught_by == "right test" for row in result) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 2 for bad usage."""
    return command_line.run(seeded_faults, argv)


if __name__ == "__main__":
    sys.exit(main())
