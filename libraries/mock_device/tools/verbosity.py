"""``lab verbosity``: changes how much the driver logs, while it runs.

The driver sets verbosity N when it receives the real-time signal SIGRTMIN+N, and
confirms it in its log; nothing restarts.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from mock_device.checks.driver import driver, logs
from mock_device.checks.driver.driver import Component
from mock_device.checks.driver.logs import LogMark
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.objects import kube
from mock_device.checks.waiting import Deadline, until_no_complaints
from mock_device.lab.base.timeouts import Timeout
from mock_device.tools.logs import pods

LEVELS = range(2, 7)
"""Verbosities, from state changes to every resource (mock_accel_dra/klog.py)."""
COMPONENTS = (Component.NODE_AGENT, Component.CONTROLLER)


def command(level: int) -> list[str]:
    """Command that sends the signal to the driver, process 1 of its container; its image has no kill(1)."""
    return ["/usr/bin/python3", "-c", f"import os, signal; os.kill(1, signal.SIGRTMIN + {level})"]


def set_level(
    session: Session,
    level: int,
    component: Component | None = None,
    node: str | None = None,
    timeout: timedelta = Timeout.VERBOSITY.nominal,
) -> list[str]:
    """Set the verbosity of the driver's pods (of ``component``, on ``node``) to ``level``; returns their names.

    Waits until each pod has confirmed it. Raises CheckError for an invalid level,
    for a component without verbosity, if there is no such pod, and if one has not
    confirmed within ``timeout`` (for all pods together).
    """
    if level not in LEVELS:
        raise CheckError(f"expected a verbosity from {LEVELS[0]} to {LEVELS[-1]}, found {level}")
    if component not in (None, *COMPONENTS):
        raise CheckError(f"{component.title} has no verbosity; {' and '.join(item.title for item in COMPONENTS)} have")
    deadline = Deadline(timeout)
    names = _pods(session, component, node)
    marks = [driver.mark(session.api, pod) for pod in names]
    for pod in names:
        kube.execute(session.api, pod, command(level), deadline.left(), namespace=driver.namespace())
    for mark in marks:
        until_no_complaints(
            partial(_unconfirmed, session, mark, level),
            deadline.left(),
            f"{mark.pod} has not confirmed verbosity {level} (is its image older than this tool?)",
        )
    return names


def _pods(session: Session, component: Component | None, node: str | None) -> list[str]:
    if component:
        return pods(session, component, node)
    loaders = driver.pods(session.api, Component.MODULE_LOADER)
    return [pod for pod in pods(session, None, node) if pod not in loaders]


def _unconfirmed(session: Session, mark: LogMark, level: int) -> list[str]:
    return logs.missing(logs.after(mark, driver.log_of(session.api, mark.pod)), [logs.verbosity(level)])
