"""``lab logs``: logs of the driver's pods, filtered by component, node, severity and text; also followed.

Lines have klog's format: severity, month and day, time, process, place, and the
message with its values (dra-driver/mock_accel_dra/klog.py). A line without that
header continues the previous one.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus

from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.diagnosis.snapshot import NO_LOG
from mock_device.lab.cluster import kmm_state, module_loader
from mock_device.lab.cluster.loader_settings import LoaderKind
from mock_device.lab.kube import kubeclient

_HEADER = re.compile(r"(?P<severity>[IWEF])(?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d+) +\d+ [^]]+\] (?P<message>.*)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

CALLS = frozenset(
    {
        "NodePrepareResources",
        "NodeUnprepareResources",
        "Prepared claim",
        "Prepare failed",
        "Unprepared claim",
        "Unprepare failed",
        "Call was given up",
        "Releasing the devices of a stale claim",
        "Claim is not prepared",
        "Forgetting a stale claim of an earlier boot",
        "Set status",
        "Added share",
        "Removed share",
        "Wrote CDI file",
        "Removed CDI file",
        "Device cannot be read, its CDI file stays",
        "Roll-back failed",
        "Device is gone, its status is not written",
        "Register of another device left alone",
    }
)
"""Messages of the kubelet's calls and of what they did (mock_accel_dra/rpc.py, prepare.py, claimed_devices.py)."""


class Severity(Enum):
    """klog's severities; lines do not show the verbosity."""

    INFO = "I"
    WARNING = "W"
    ERROR = "EF"


_RANK = {letter: rank for rank, severity in enumerate(Severity) for letter in severity.value}


@dataclass(frozen=True)
class LogLine:
    """A line of a pod's log."""

    pod: str
    text: str
    severity: str
    """``I``, ``W``, ``E`` or ``F``."""
    stamp: str
    """Month, day and time in klog's format, UTC; empty before the first header."""
    message: str
    """Message without its values; empty for a continuation line."""

    def __str__(self) -> str:
        return f"{self.pod}\t{self.text}"


@dataclass(frozen=True)
class Selection:
    """Selects lines and pods."""

    component: Component | None = None
    node: str | None = None
    severity: Severity = Severity.INFO
    """Minimum severity."""
    grep: re.Pattern[str] | None = None
    calls: bool = False
    """Whether to select only the messages in CALLS."""
    since: int | None = None
    """Maximum age in seconds."""

    def takes(self, line: LogLine) -> bool:
        """Whether ``line`` is selected."""
        return (
            _RANK[line.severity] >= list(Severity).index(self.severity)
            and (self.grep is None or bool(self.grep.search(line.text)))
            and (not self.calls or line.message in CALLS)
        )


@dataclass
class Parser:
    """Parses the lines of one pod's log, in order."""

    pod: str
    _severity: str = field(default="I", init=False)
    _stamp: str = field(default="", init=False)

    def line(self, text: str) -> LogLine:
        """Parse the next line."""
        message = ""
        if header := _HEADER.match(text):
            self._severity, self._stamp = header["severity"], header["stamp"]
            quoted = _QUOTED.match(header["message"])
            message = str(json.loads(quoted[0])) if quoted else header["message"]
        return LogLine(self.pod, text, self._severity, self._stamp, message)


def select(logs: Iterable[tuple[str, str]], selection: Selection) -> list[LogLine]:
    """Selected lines of ``logs`` (pod and its complete log), sorted by time."""
    lines = [line for pod, log in logs for line in map(Parser(pod).line, log.splitlines())]
    return sorted(filter(selection.takes, lines), key=lambda line: line.stamp)


def pods(session: Session, component: Component | None, node: str | None) -> list[str]:
    """Names of the selected driver pods. Raises CheckError if there is none, KeyError for an unknown node."""
    if node is not None:
        session.topology.node(node)
    components = [component] if component else list(Component)
    found = [name for item in components for name in driver.pods(session.api, item, node)]
    if not found and component is Component.MODULE_LOADER and module_loader.found_in(session.api) is LoaderKind.KMM:
        raise CheckError(f"KMM loads the kernel module, its pods end after a moment; see: {kmm_state.LOGS}")
    if not found:
        what = component.title if component else "the driver"
        raise CheckError(f"no pod of {what}{f' on {node}' if node else ''}; see: lab diagnose")
    return found


def read(session: Session, selection: Selection) -> list[LogLine]:
    """The selected lines so far. A pod whose log cannot be read gets a line with the reason, which is always selected.

    Raises CheckError if no log can be read.
    """
    names = pods(session, selection.component, selection.node)
    with ThreadPoolExecutor(len(names)) as pool:
        logs = dict(zip(names, pool.map(lambda pod: _log(session.api, pod, selection.since), names), strict=True))
    texts = [(pod, log) for pod, log in logs.items() if isinstance(log, str)]
    failed = [log for log in logs.values() if isinstance(log, LogLine)]
    if not texts:
        raise CheckError("\n".join(map(str, failed)))
    return failed + select(texts, selection)


def _log(api: ApiClient, pod: str, since: int | None) -> str | LogLine:
    try:
        return driver.log_of(api, pod, since_seconds=since)
    except ApiException as error:
        # A container that has not started yet has no log.
        return "" if error.status == HTTPStatus.BAD_REQUEST else _no_log(pod, kubeclient.refusal(error))
    except HTTPError as error:
        return _no_log(pod, str(error))


def _no_log(pod: str, reason: str) -> LogLine:
    """A line in place of a log that cannot be read, so that it does not hide the logs of other pods."""
    return LogLine(pod, f"{NO_LOG}{' '.join(reason.split())}", severity="E", stamp="", message="")


def follow(session: Session, selection: Selection, seconds: float | None = None) -> Iterator[LogLine]:
    """Follow the selected lines, existing and new ones, in the order of arrival.

    Ends after ``seconds``, or when all the pods have ended; pods that start later
    are not followed.
    """
    names = pods(session, selection.component, selection.node)
    lines: queue.Queue[LogLine | None] = queue.Queue()

    def pump(pod: str) -> None:
        parser = Parser(pod)
        try:
            for text in driver.follow_log(session.api, pod, since_seconds=selection.since):
                lines.put(parser.line(text))
        except ApiException as error:
            lines.put(_no_log(pod, kubeclient.refusal(error)))
        except HTTPError as error:
            lines.put(_no_log(pod, str(error)))
        finally:
            lines.put(None)

    for pod in names:
        threading.Thread(target=pump, args=(pod,), name=f"log of {pod}", daemon=True).start()
    deadline = None if seconds is None else time.monotonic() + seconds
    open_logs = len(names)
    while open_logs:
        try:
            line = lines.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        if line is None:
            open_logs -= 1
        elif line.text.startswith(NO_LOG) or selection.takes(line):
            yield line
