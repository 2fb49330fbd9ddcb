"""Subcommands of ``lab`` that look into a running cluster. What they need is imported when they run."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mock_device.lab.base.errors import StepError

if TYPE_CHECKING:
    from mock_device.checks.driver.driver import Component
    from mock_device.checks.nodes.session import Session
    from mock_device.tools.logs import Selection

Run = Callable[[argparse.Namespace], int]
Add = Callable[[str, Run, str], argparse.ArgumentParser]
Tool = Callable[["Session", argparse.Namespace], int]

_COMPONENTS = ("node-agent", "controller", "module-loader")
_SEVERITIES = ("info", "warning", "error")
_SINCE = re.compile(r"(\d+)([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_commands(add: Add) -> None:
    """Add all tools by ``add(name, run, help)``, which makes a parser that knows ``--name`` of the cluster."""
    devices = add("devices", _on_cluster(_devices), "Show devices as their nodes' sysfs has them: status, UUID, PCI …")
    devices.add_argument("node", metavar="NODE", nargs="?", help="only this node's")
    devices.add_argument("device", metavar="DEVICE", nargs="?", help="only this one")
    slices = add("slices", _on_cluster(_slices), "Show what is published, and which claims and pods have it.")
    slices.add_argument("--node", help="only this node's")
    diagnose = add(
        "diagnose", _on_cluster(_diagnose), "Name the first broken stretch from the device to its container."
    )
    diagnose.add_argument("--pod", metavar="NAMESPACE/NAME", help="look at the claims of this pod only")
    diagnose.add_argument("-v", "--verbose", action="store_true", help="show all that each step found")
    for command in (devices, slices, diagnose):
        command.add_argument("--json", action="store_true", help="machine-readable")
    _add_cdi(add)
    _add_logs(add)
    verbosity = add("verbosity", _on_cluster(_verbosity), "Change how much the driver logs, while it runs.")
    verbosity.add_argument("level", metavar="N", type=int, help="2 state changes, 3 operations, 4 flow, 5 scans, 6 all")
    verbosity.add_argument("--component", choices=_COMPONENTS[:2])
    verbosity.add_argument("--node", help="only the pods of this node")
    verbosity.add_argument("--json", action="store_true", help="machine-readable")


def _add_cdi(add: Add) -> None:
    cdi = add("cdi", _on_cluster(_cdi), "List, show, check or watch the driver's CDI files.")
    cdi.add_argument("action", choices=("list", "show", "check", "watch"), help="check: exit code 1 on findings")
    cdi.add_argument("device", metavar="DEVICE", nargs="?", help="of show: only this one's file")
    cdi.add_argument("--node", help="only this node's")
    cdi.add_argument("--seconds", type=float, help="of watch: end then (default: at Ctrl-C)")
    cdi.add_argument("--json", action="store_true", help="machine-readable; of watch one document a line")


def _add_logs(add: Add) -> None:
    logs = add("logs", _on_cluster(_logs), "Show what the driver's pods log, each line with its pod.")
    logs.add_argument("--component", choices=_COMPONENTS)
    logs.add_argument("--node", help="only the pods of this node")
    logs.add_argument("--severity", choices=_SEVERITIES, default="info", help="at least that (default: %(default)s)")
    logs.add_argument("--grep", metavar="REGEX", type=_regex, help="only lines with it")
    logs.add_argument(
        "--calls", action="store_true", help="only the kubelet's calls to prepare and unprepare, and what they did"
    )
    logs.add_argument("--since", metavar="5m", type=_since, help="only the last seconds, minutes or hours")
    logs.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    logs.add_argument("--json", action="store_true", help="one document a line")


def _on_cluster(tool: Tool) -> Run:
    """Run ``tool`` on the cluster that the command line names.

    One that lists what nodes have lists the others when a node does not answer, which is named; exit code 1 then.
    """

    def run(arguments: argparse.Namespace) -> int:
        from mock_device.checks.errors import CheckError
        from mock_device.lab.cluster import client
        from mock_device.tools.looking import LookingSession, TolerantSession

        cluster = client.attach(arguments.name, f"lab {tool.__name__.lstrip('_')}")
        lists = tool is _devices or (tool is _cdi and arguments.action in ("list", "show"))
        session = TolerantSession(cluster) if lists else LookingSession(cluster)
        try:
            code = tool(session, arguments)
            if isinstance(session, TolerantSession) and session.silent:
                print(*(f"lab: {reason}" for reason in session.silent.values()), sep="\n", file=sys.stderr)
                return 1
            return code
        except (CheckError, ValueError) as error:
            raise StepError(str(error)) from error
        finally:
            session.close()

    return run


def _devices(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.tools import devices

    rows = devices.read(session, arguments.node, arguments.device)
    print(_json(rows) if arguments.json else devices.as_text(rows))
    return 0


def _slices(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.tools import slices

    rows = slices.read(session, arguments.node)
    print(_json(rows) if arguments.json else slices.as_text(rows))
    return 0


def _diagnose(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.diagnosis import diagnosis

    found = diagnosis.diagnose(session, arguments.pod)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print(diagnosis.as_text(found, details=arguments.verbose))
    return 0 if found.healthy else 1


def _cdi(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.tools import cdi

    match arguments.action:
        case "list":
            entries = cdi.list_entries(session, arguments.node)
            print(_json(entries) if arguments.json else cdi.as_text(entries))
        case "show":
            files = cdi.read(session, arguments.node, arguments.device)
            print(
                _json(files)
                if arguments.json
                else "\n".join(f"{file.node}\t{file.path}\n{file.text}" for file in files)
            )
        case "check":
            findings = cdi.check(session, arguments.node)
            print(json.dumps(findings, indent=1) if arguments.json else "\n".join(findings) or "nothing is wrong")
            return 1 if findings else 0
        case "watch":
            _watch_cdi(session, arguments)
    return 0


def _watch_cdi(session: Session, arguments: argparse.Namespace) -> None:
    from mock_device.tools import cdi

    def tell(change: cdi.Change | None) -> None:
        now = datetime.datetime.now().astimezone()
        if arguments.json:
            line = json.dumps({"time": now.isoformat(), **(asdict(change) if change else {"what": "watching"})})
        else:
            line = cdi.as_line(change, now) if change else cdi.WATCH_HEADING
        print(line, flush=True)

    try:
        for change in cdi.watch(lambda: cdi.read(session, arguments.node), arguments.seconds, lambda: tell(None)):
            tell(change)
    except KeyboardInterrupt:
        return


def _logs(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.tools import logs

    selection = _selection(arguments)
    lines = logs.follow(session, selection) if arguments.follow else logs.read(session, selection)
    try:
        for line in lines:
            print(json.dumps(asdict(line)) if arguments.json else line, flush=arguments.follow)
    except KeyboardInterrupt:
        return 0
    return 0


def _selection(arguments: argparse.Namespace) -> Selection:
    from mock_device.tools.logs import Selection, Severity

    return Selection(
        component=_component(arguments.component),
        node=arguments.node,
        severity=Severity[arguments.severity.upper()],
        grep=arguments.grep,
        calls=arguments.calls,
        since=arguments.since,
    )


def _verbosity(session: Session, arguments: argparse.Namespace) -> int:
    from mock_device.tools import verbosity

    pods = verbosity.set_level(session, arguments.level, _component(arguments.component), arguments.node)
    if arguments.json:
        print(json.dumps([{"pod": pod, "verbosity": arguments.level} for pod in pods], indent=1))
    else:
        print("\n".join(f"{pod}\tverbosity {arguments.level}" for pod in pods))
    return 0


def _component(name: str | None) -> Component | None:
    from mock_device.checks.driver.driver import Component

    return Component[name.upper().replace("-", "_")] if name else None


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"expected a regular expression, found {text!r}: {error}") from None


def _since(text: str) -> int:
    """Seconds."""
    if not (match := _SINCE.fullmatch(text)) or not int(match[1]):
        raise argparse.ArgumentTypeError(f"expected a time like 30s, 5m or 1h, found {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _json(rows: Iterable[Any]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1)
