"""Subcommands of ``lab`` that look into a running cluster; see docs/tools.md."""

from __future__ import annotations

import contextlib
import datetime
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from mock_device.commands import options
from mock_device.lab.base.errors import StepError

if TYPE_CHECKING:
    from mock_device.checks.driver.driver import Component
    from mock_device.checks.nodes.session import Session
    from mock_device.tools.cdi import Change

_COMPONENTS = ("node-agent", "controller", "module-loader")
_SEVERITIES = ("info", "warning", "error")
_SINCE = re.compile(r"(\d+)([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}


@contextmanager
def session_of(name: str, who: str, *, tolerant: bool = False) -> Iterator[Session]:
    """Hold cluster ``name`` for the subcommand ``who``; failed checks become StepErrors.

    A ``tolerant`` session skips nodes that do not answer, for commands that list the content of nodes.
    """
    from mock_device.checks.errors import CheckError
    from mock_device.checks.nodes.looking import LookingSession, TolerantSession
    from mock_device.lab.cluster import client

    cluster = client.attach(name, f"lab {who}")
    session = TolerantSession(cluster) if tolerant else LookingSession(cluster)
    try:
        yield session
    except (CheckError, ValueError) as error:
        raise StepError(str(error)) from error
    finally:
        session.close()


def _name_silent_nodes(session: Session) -> int:
    """Print on standard error which nodes did not answer; return exit code 1 if there are any, else 0."""
    from mock_device.checks.nodes.looking import TolerantSession

    silent = session.silent.values() if isinstance(session, TolerantSession) else []
    for reason in silent:
        print(f"lab: {reason}", file=sys.stderr)
    return 1 if silent else 0


@click.command()
@click.argument("node", required=False, metavar="[NODE", shell_complete=options.complete_node)
@click.argument("device", required=False, metavar="[DEVICE]]", shell_complete=options.complete_device)
@options.as_json()
@options.name
def devices(node: str | None, device: str | None, as_json: bool, name: str) -> int:
    """Show devices as sysfs on their nodes shows them: status, UUID, PCI address and more."""
    from mock_device.lab.base import tables
    from mock_device.tools import devices as tool

    with session_of(name, "devices", tolerant=True) as session:
        tables.show(tool.read(session, node, device), tool.table, as_json=as_json)
        return _name_silent_nodes(session)


@click.command()
@options.node
@options.as_json()
@options.name
def slices(node: str | None, as_json: bool, name: str) -> None:
    """Show published devices, and which claims and pods have them."""
    from mock_device.lab.base import tables
    from mock_device.tools import slices as tool

    with session_of(name, "slices") as session:
        tables.show(tool.read(session, node), tool.table, as_json=as_json)


@click.command()
@click.option("--pod", metavar="NAMESPACE/NAME", help="Look at the claims of this pod only.")
@click.option("-v", "--verbose", is_flag=True, help="Show everything that each step found.")
@options.as_json()
@options.name
def diagnose(pod: str | None, verbose: bool, as_json: bool, name: str) -> int:
    """Name the first broken step on the way from the device to its container."""
    from mock_device.diagnosis import diagnosis
    from mock_device.lab.base import tables

    with session_of(name, "diagnose") as session:
        found = diagnosis.diagnose(session, pod)
        tables.show(found, partial(diagnosis.table, details=verbose), as_json=as_json)
        return 0 if found.healthy else 1


@click.command()
@click.argument("action", type=click.Choice(["list", "show", "check", "watch"]))
@click.argument("device", required=False)
@options.node
@click.option("--seconds", type=float, metavar="SECONDS", help="For watch: end after this time (default: at Ctrl-C).")
@options.as_json("Print JSON; watch prints one document a line.")
@options.name
def cdi(action: str, device: str | None, node: str | None, seconds: float | None, as_json: bool, name: str) -> int:
    """List, show, check or watch the driver's CDI files.

    DEVICE is for show: only this device's file. The exit code of check is 1 if it finds something wrong.
    """
    from mock_device.lab.base import tables
    from mock_device.tools import cdi as tool

    with session_of(name, "cdi", tolerant=action in ("list", "show")) as session:
        match action:
            case "list":
                tables.show(tool.list_entries(session, node), tool.table, as_json=as_json)
            case "show":
                files = tool.read(session, node, device)
                contents = "\n".join(f"{file.node}\t{file.path}\n{file.text}" for file in files)
                print(tables.to_json(files) if as_json else contents)
            case "check":
                findings = tool.check(session, node)
                print(tables.to_json(findings) if as_json else "\n".join(findings) or "nothing is wrong")
                return 1 if findings else 0
            case "watch":
                _watch_cdi(session, node, seconds, as_json)
        return _name_silent_nodes(session)


def _watch_cdi(session: Session, node: str | None, seconds: float | None, as_json: bool) -> None:
    from mock_device.lab.base import tables
    from mock_device.tools import cdi as tool

    def tell(change: Change | None) -> None:
        now = datetime.datetime.now().astimezone()
        if as_json:
            fields = asdict(change) if change else {"what": "watching"}
            line = tables.to_json({"time": now.isoformat(), **fields}, one_line=True)
        else:
            line = tool.as_line(change, now) if change else tool.WATCH_HEADING
        print(line, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        for change in tool.watch(lambda: tool.read(session, node), seconds, lambda: tell(None)):
            tell(change)


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"expected a regular expression, found {text!r}: {error}") from None


def _since(text: str) -> int:
    """Seconds."""
    if not (match := _SINCE.fullmatch(text)) or not int(match[1]):
        raise click.BadParameter(f"expected a time like 30s, 5m or 1h, found {text!r}")
    return int(match[1]) * _UNITS[match[2]]


@click.command()
@click.option("--component", type=click.Choice(_COMPONENTS), help="Only this part of the driver.")
@options.node
@click.option("--severity", type=click.Choice(_SEVERITIES), default="info", help="At least this (default: info).")
@click.option("--grep", metavar="REGEX", type=_regex, help="Only lines that match.")
@click.option("--calls", is_flag=True, help="Only the kubelet's calls to prepare and unprepare, and their effects.")
@click.option("--since", metavar="5m", type=_since, help="Only the last seconds, minutes or hours (s, m, h).")
@click.option("--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@options.as_json("Print one JSON document a line.")
@options.name
def logs(
    component: str | None,
    node: str | None,
    severity: str,
    grep: re.Pattern[str] | None,
    calls: bool,
    since: int | None,
    follow: bool,
    as_json: bool,
    name: str,
) -> None:
    """Show the logs of the driver's pods, each line with its pod."""
    from mock_device.lab.base import tables
    from mock_device.tools import logs as tool

    selection = tool.Selection(_component(component), node, tool.Severity[severity.upper()], grep, calls, since)
    with session_of(name, "logs") as session, contextlib.suppress(KeyboardInterrupt):
        for line in tool.follow(session, selection) if follow else tool.read(session, selection):
            print(tables.to_json(line, one_line=True) if as_json else line, flush=follow)


@click.command()
@click.argument("level", metavar="N", type=int)
@click.option("--component", type=click.Choice(_COMPONENTS[:2]), help="Only this part of the driver.")
@options.node
@options.as_json()
@options.name
def verbosity(level: int, component: str | None, node: str | None, as_json: bool, name: str) -> None:
    """Change how much the driver logs, while it runs.

    N is 2 for state changes, 3 for operations, 4 for the flow, 5 for routine scans, 6 for everything.
    """
    from mock_device.lab.base import tables
    from mock_device.tools import verbosity as tool

    with session_of(name, "verbosity") as session:
        pods = tool.set_level(session, level, _component(component), node)
    if as_json:
        print(tables.to_json([{"pod": pod, "verbosity": level} for pod in pods]))
    else:
        print("\n".join(f"{pod}\tverbosity {level}" for pod in pods))


def _component(name: str | None) -> Component | None:
    from mock_device.checks.driver.driver import Component

    return Component[name.upper().replace("-", "_")] if name else None
