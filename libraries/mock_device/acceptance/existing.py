"""Runs suites on a cluster of the lab that is attached as if somebody else had made it; a round of ``nightly``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from mock_device.acceptance import foreign, report
from mock_device.acceptance.arguments import suites_and_options
from mock_device.acceptance.foreign import Foreign
from mock_device.acceptance.report import OUTPUT, SUMMARY
from mock_device.commands import options
from mock_device.lab.base import command_line, progress
from mock_device.lab.base.defaults import DEFAULT_TOPOLOGY
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.tables import print_tables, to_json
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster import client
from mock_device.lab.cluster.launcher import RUN_PREFIX

_LOG = "lab.log"


@click.command("existing", context_settings=command_line.SETTINGS)
@options.profile
@options.outputdir(PROJECT / "results" / "existing")
@options.suites_and_options
def existing(profile: str, outputdir: Path, arguments: Sequence[str]) -> int:
    """Run suites on a cluster that is attached as if it existed, detach it, and compare it with before.

    Options for robot stand after --.
    """
    suites, robot_options = suites_and_options(arguments)
    outputdir = outputdir.absolute()
    variables = report.prepare(outputdir, outputdir)
    name = f"{RUN_PREFIX}existing-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="mock-device-") as folder:
        cluster = client.up(DEFAULT_TOPOLOGY, name, "suites on an existing cluster", profile)
        try:
            with progress.step("driver, kernel module and their images removed"):
                foreign.strip(cluster, with_images=True)
            left = _run(Foreign(cluster, Path(folder)), outputdir, variables, suites, robot_options)
        finally:
            cluster.release()
    if not (outputdir / OUTPUT).is_file():
        raise StepError(f"robot left no {outputdir / OUTPUT}", outputdir / _LOG)
    summary = report.summarise(outputdir / OUTPUT, [])
    print_tables(summary.table())
    write_file(outputdir / SUMMARY, to_json(asdict(summary)))
    if left:
        raise StepError("lab detach did not leave the cluster as it was:\n  " + "\n  ".join(left), outputdir / _LOG)
    return 1 if summary.failed else 0


def _run(
    user: Foreign, outputdir: Path, variables: dict[str, str], suites: Sequence[Path], options: Sequence[str]
) -> list[str]:
    """Attach, run the suites and detach; what detaching has left, a line each."""
    log = outputdir / _LOG
    before = foreign.state_of(user.cluster)
    with progress.step("attached", outputdir):
        user.lab("attach", "--profile", user.profile, timeout=Timeout.ATTACH.seconds, log=log)
    settings = [*report.OPTIONS, "--outputdir", str(outputdir), "--variable", f"PROFILE:{user.profile}"]
    settings += [part for name, value in variables.items() for part in ("--variable", f"{name}:{value}")]
    # The round that runs this has a deadline.
    argv = [*user.prefix, sys.executable, "-m", "robot", *settings, *options, *map(str, suites)]
    subprocess.run(argv, cwd=PROJECT, check=False)
    with progress.step("detached", outputdir):
        user.lab("detach", timeout=Timeout.DETACH.seconds, log=log)
    return foreign.changes(before, foreign.state_of(user.cluster))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suites; exit code 1 for failed tests and steps, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(existing, argv)


if __name__ == "__main__":
    sys.exit(main())
