"""``lab conformance``: which promises of the contract a driver keeps; see docs/how-to/conformance.md."""

from __future__ import annotations

from pathlib import Path

import click

from mock_device.commands import options
from mock_device.lab.base.paths import PROJECT


@click.command()
@options.driver
@click.option("--short", is_flag=True, help="Leave out what restarts something or waits long.")
@click.option("--topology", default="", metavar="NAME-OR-FILE", help="Of a cluster that is started, if none fits.")
@click.option(
    "--from",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="OUTPUT.XML",
    help="Run nothing: report a run of the suite.",
)
@options.outputdir(PROJECT / "results" / "conformance")
@options.as_json()
def conformance(
    driver: str | None, short: bool, topology: str, recorded: Path | None, outputdir: Path, as_json: bool
) -> None:
    """Check a DRA driver against the kubelet plugin contract and the API; report in results/conformance/.

    Runs suites/conformance.robot on the cluster of `lab up`, or on one that it starts; without --driver, with this
    project's driver.
    """
    from mock_device.conformance import report, run
    from mock_device.conformance.results import State
    from mock_device.driver import description
    from mock_device.lab.base import tables
    from mock_device.lab.base.tables import Note, Table
    from mock_device.lab.cluster import drivers

    # A mistake in the file must not wait for a cluster.
    described = description.load(driver) if driver else drivers.chosen() or description.load(description.DEFAULT)
    folder = outputdir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    output = recorded or run.run(run.argv(str(described.path), folder, short=short, topology=topology), folder)
    found = run.read(output, str(described.path))
    files = report.write(found, folder)
    places = Table((), [Note("report", str(path)) for path in files])
    if as_json:
        print(report.as_json(found), end="")
    else:
        tables.print_tables(report.table(found), places)
    if found.count(State.FAILED):
        raise click.exceptions.Exit(1)
