"""``lab fault``: let a device hang, err, overheat or die; see docs/tools.md."""

from __future__ import annotations

import click
from mock_accel_server.faults import LEAST_CELSIUS, MOST_CELSIUS, MOST_MILLISECONDS, Fault

from mock_device.commands import looking, options

_FAULTS = [fault.value for fault in Fault if fault is not Fault.CLEAR]


@click.command()
@click.argument("node", required=False, metavar="NODE", shell_complete=options.complete_node)
@click.argument("device", required=False, metavar="DEVICE", shell_complete=options.complete_device)
@click.argument("fault", required=False, metavar="FAULT", type=click.Choice(_FAULTS))
@click.option(
    "--milliseconds", type=options.number(0, MOST_MILLISECONDS), metavar="N", help="For slow: of each job; 0 ends it."
)
@click.option(
    "--celsius", type=click.FloatRange(LEAST_CELSIUS, MOST_CELSIUS), metavar="N", help="For temperature: hot over 95."
)
@click.option("--off", is_flag=True, help="For wrong-id: end it.")
@click.option("--show", "wanted", flag_value="show", help="Show the device's state and faults only.")
@click.option("--clear", "wanted", flag_value="clear", help="End all faults of the device.")
@click.option("--list", "listed", is_flag=True, help="List the faults.")
@options.as_json()
@options.name
def fault(
    node: str | None,
    device: str | None,
    fault: str | None,
    milliseconds: int | None,
    celsius: float | None,
    off: bool,
    wanted: str | None,
    listed: bool,
    as_json: bool,
    name: str,
) -> None:
    """Cause a fault of a device, and show its state after it.

    Instead of FAULT: --show or --clear. `lab fault --list` explains the faults; each stays until it has happened, or
    until --clear.
    """
    from mock_device.lab.base import tables
    from mock_device.tools import faults as tool

    given = milliseconds is not None or celsius is not None or off
    if listed:
        if node or wanted or given:
            raise click.UsageError("--list: expected no other argument but --json")
        tables.show(tool.KINDS, tool.table_of_kinds, as_json=as_json)
        return
    if not (node and device) or bool(fault) == bool(wanted):
        raise click.UsageError("expected NODE DEVICE and one of FAULT, --show and --clear; or --list")
    if wanted and given:
        raise click.UsageError(f"--{wanted}: expected no option of a fault")
    chosen = Fault(fault) if fault else Fault.CLEAR
    try:
        arguments = tool.arguments_of(chosen, milliseconds=milliseconds, celsius=celsius, off=off)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with looking.session_of(name, "fault") as session:
        if wanted == "show":
            state = tool.show(session, node, device)
        else:
            state = tool.inject(session, node, device, chosen, arguments)
        tables.show([state], tool.table, as_json=as_json)
