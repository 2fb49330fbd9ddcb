"""Proves that the lab works on KVM, on a machine that may have none: ``make test-kvm``.

Boots an emulated outer guest with AMD's virtualisation, and runs the lab in it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import psutil
from kvm import machine, material
from kvm.plan import SHORT, WHOLE, Plan
from kvm.report import Result

from mock_device.lab.base import command_line, progress, tables
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.outer_guest import build_outer_guest
from mock_device.lab.build.qemu_build import ensure_qemu

RESULTS = PROJECT / "results" / "kvm"
_MIB = 1 << 20
_STYLES = {"passed": "green", "failed": "red", "not run": "yellow"}


def check_memory(plan: Plan, available: int) -> None:
    """Raise StepError if ``available`` bytes of memory are too few for the outer guest of ``plan``."""
    # QEMU itself takes a quarter more, for translated code and tables.
    needed = plan.memory_mib * 5 // 4
    if available < needed * _MIB:
        raise StepError(
            f"expected {needed} MiB of free memory for the outer guest, found {available // _MIB}; "
            "stop clusters (lab clusters, lab down)"
        )


def run(plan: Plan, folder: Path) -> list[Result]:
    """Run the steps of ``plan``; its logs are in ``folder``. Raises StepError."""
    qemu, node_disk = ensure_qemu(), build_node_image().disk
    outer = build_outer_guest()
    check_memory(plan, psutil.virtual_memory().available)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console, report = folder / "console.log", folder / "report.log"
    disk = material.write(folder, plan)
    try:
        argv = machine.argv(qemu, outer, disk, node_disk, plan.memory_mib, console, report)
        with progress.step(f"outer guest ({plan.name})", folder):
            watch = machine.run(argv, qemu.env, plan, folder, tell)
    finally:
        disk.unlink(missing_ok=True)
    if watch.progress.failed:
        print(f"last lines of {console}:\n{machine.last_lines(console)}", file=sys.stderr)
    return watch.progress.all()


def tell(result: Result) -> None:
    """Print a step that has ended."""
    reason = f": {result.reason}" if result.reason else ""
    progress.say(f"  {result.result}\t{result.step}\t{result.seconds:.1f} s{reason}")


def table(results: Sequence[Result]) -> tables.Table:
    """The table of ``results``."""
    rows = [(one.step, one.result, f"{one.seconds:.1f}", one.what, one.reason) for one in results]
    header = ("step", "result", "seconds", "what", "reason")
    return tables.Table(header, rows, wraps=("what", "reason"), styles=_STYLES)


def counts(results: Sequence[Result]) -> str:
    """The last line: how many steps passed, failed and were not run."""
    numbers = {name: sum(one.result == name for one in results) for name in _STYLES}
    left = f", {numbers['not run']} not run" if numbers["not run"] else ""
    return f"{numbers['passed']} passed, {numbers['failed']} failed{left}"


@click.command("test-kvm", context_settings=command_line.SETTINGS)
@click.option("--cluster", is_flag=True, help="Run a whole cluster of topology single-node, at most 3 hours.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
def test_kvm(cluster: bool, as_json: bool) -> int:
    """Run the lab on KVM inside an emulated guest; exit code 1 unless every step passes.

    Works without hardware virtualisation. Logs are in results/kvm.
    """
    results = run(WHOLE if cluster else SHORT, RESULTS)
    tables.show(results, table, as_json=as_json)
    if not as_json:
        print(counts(results))
    return 0 if all(one.result == "passed" for one in results) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(test_kvm, argv)


if __name__ == "__main__":
    sys.exit(main())
