"""Command line of the driver: ``python -m mock_accel_dra {node-agent,controller}``.

Every flag has an environment variable: its name in upper case, with ``_`` for
``-``. The flag takes precedence. Signal SIGRTMIN+N sets the log verbosity to N
(2 to 6). Exit codes: 0 stopped by SIGTERM or SIGINT, 1 could not start, 2 bad
usage.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from mock_accel_dra import failpoints, features, klog
from mock_accel_dra.settings import AgentSettings, ControllerSettings

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_POD_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_URL = re.compile(r"https?://[^/\s]+/?")
_VERBOSITIES = range(klog.STATE, klog.RESOURCE + 1)
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS = _STOP_SIGNALS | {signal.SIGRTMIN + verbosity for verbosity in _VERBOSITIES}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Program(Protocol):
    def run(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class _Flag:
    name: str
    parse: Callable[[str], Any]
    help: str

    @property
    def variable(self) -> str:
        return self.name.upper().replace("-", "_")

    @property
    def destination(self) -> str:
        return self.name.replace("-", "_")


def _node_name(text: str) -> str:
    if len(text) > 253 or not _DNS_SUBDOMAIN.fullmatch(text):
        raise ValueError("expected the name of a node, a DNS subdomain like node-1.example.com")
    return text


def _pod_uid(text: str) -> str:
    if not _POD_UID.fullmatch(text):
        raise ValueError("expected the uid of a pod, like 3f1d0c9a-5f0e-4c55-9a43-0d2f6c1b7a10")
    return text


def _folder(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError("expected an absolute path")
    return Path(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text)
    value = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if not 0.1 <= value <= 24 * 3600:
        raise ValueError("expected a time from 100ms to 24h, like 30s")
    return value


def _seconds_or_never(text: str) -> float:
    if text == "never":
        return float("inf")
    try:
        return _seconds(text)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from None


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError("expected an URL like https://10.96.0.1:443")
    return text.rstrip("/")


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError("expected a TCP port from 0 (none) to 65535")
    return int(text)


def _verbosity(text: str) -> int:
    if text not in map(str, _VERBOSITIES):
        raise ValueError("expected a verbosity from 2 (state changes) to 6 (every resource)")
    return int(text)


_COMMON = (
    _Flag("v", _verbosity, "log verbosity, 2 to 6 (default 2)"),
    _Flag("api-server", _url, "URL of the API server, without credentials (default: the pod's own cluster)"),
    _Flag("health-port", _port, "TCP port of /healthz, /readyz and /metrics, 0 for none (default 8080)"),
)
_AGENT = (
    _Flag("node-name", _node_name, "node that this agent runs on; required"),
    _Flag("pod-uid", _pod_uid, "uid of the agent's pod: makes its socket names unique, so that two agents can overlap"),
    _Flag("sysfs-root", _folder, "where the node's sysfs is mounted (default /sys)"),
    _Flag("cdi-root", _folder, "folder for CDI files (default /var/run/cdi)"),
    _Flag("plugin-dir", _folder, "folder of the service socket and the state file"),
    _Flag("registry-dir", _folder, "folder that the kubelet watches for registration sockets"),
    _Flag("rescan-interval", _seconds, "how often to scan for devices without a kernel event (default 30s)"),
    _Flag("kernel-events", _boolean, "scan at once when the kernel announces a change (default true)"),
    _Flag("reset-after", _seconds_or_never, "how long to wait before a hung or failed device is reset (default 10s)"),
    _Flag("features", features.parse, f"features of {', '.join(features.Feature)}, with commas (default none)"),
)
_CONTROLLER = (_Flag("resync-interval", _seconds, "how often to take the inventory without a change (default 60s)"),)
_COMMANDS = {"node-agent": (*_AGENT, *_COMMON), "controller": (*_CONTROLLER, *_COMMON)}


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[AgentSettings | ControllerSettings, int]:
    """Settings and log verbosity; a bad flag or variable exits with code 2 and a message that says what is expected."""
    parser = argparse.ArgumentParser(prog="mock_accel_dra", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{node-agent,controller}")
    parsers = {}
    for command, flags in _COMMANDS.items():
        parsers[command] = commands.add_parser(command, allow_abbrev=False)
        for flag in flags:
            parsers[command].add_argument(
                f"--{flag.name}", dest=flag.destination, help=f"{flag.help} [{flag.variable}]", metavar="VALUE"
            )
    arguments = parser.parse_args(argv)
    chosen = parsers[arguments.command]
    values: dict[str, Any] = {}
    for flag in _COMMANDS[arguments.command]:
        text, source = getattr(arguments, flag.destination), f"argument --{flag.name}"
        if text is None:
            text, source = environment.get(flag.variable), f"environment variable {flag.variable}"
        if text is None:
            continue
        try:
            values[flag.destination] = flag.parse(text)
        except ValueError as error:
            chosen.error(f"{source}: {error}, found {text!r}")
    verbosity = values.pop("v", klog.STATE)
    if arguments.command == "controller":
        return ControllerSettings(**values), verbosity
    if "node_name" not in values:
        chosen.error("expected --node-name or environment variable NODE_NAME: the node this agent runs on")
    return AgentSettings(**values), verbosity


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the two programs until SIGTERM or SIGINT."""
    settings, verbosity = parse(sys.argv[1:] if argv is None else argv, os.environ)
    klog.configure(verbosity)
    os.umask(0o077)
    # Imported here so that usage errors appear before the slow import of gRPC.
    from mock_accel_dra.api import Client

    # Before any thread starts: threads inherit the mask. A signal that arrives early stays pending.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        failpoints.configure(os.environ)
        client = Client(settings.api_server) if settings.api_server else Client.in_cluster()
        program = _program(settings, client)
        threading.Thread(target=_follow_signals, args=(program.stop,), name="signals", daemon=True).start()
        values = {field.name: getattr(settings, field.name) for field in fields(settings)}
        klog.info(klog.STATE, "Starting", program=type(program).__name__, **values)
        program.run()
    except (ValueError, OSError) as error:
        klog.error("Cannot run", err=error)
        return 1
    return 0


def _follow_signals(stop: Callable[[], None]) -> None:
    """Run in a thread, because a signal handler interrupts the main thread, which may hold any lock."""
    while True:
        number = signal.sigwait(_SIGNALS)
        if number in _STOP_SIGNALS:
            stop()
        else:
            verbosity = number - signal.SIGRTMIN
            klog.set_verbosity(verbosity)
            klog.info(klog.STATE, "Verbosity", v=verbosity)


def _program(settings: AgentSettings | ControllerSettings, client: Any) -> _Program:
    if isinstance(settings, AgentSettings):
        from mock_accel_dra.agent import NodeAgent

        return NodeAgent(settings, client)
    from mock_accel_dra.controller import Controller

    return Controller(settings, client)
