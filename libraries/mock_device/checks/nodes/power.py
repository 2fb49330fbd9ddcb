"""Reboots, power cuts, a cut connection to the API server, and a wrong clock of a node."""

from __future__ import annotations

import time
from datetime import timedelta

from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import Deadline, until_no_complaints
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient

_API_PORT = 6443
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_WRITTEN = "/var/lib/written-at-power-cut"
# Creates, replaces, syncs and removes files for at most a minute.
_WRITE = f"""
    mkdir -p {_WRITTEN}
    systemd-run --quiet --collect --unit=write-load --property=RuntimeMaxSec=60 sh -c '
        cd {_WRITTEN}; number=0
        while number=$((number + 1)); do
            echo "{{\"number\": $number}}" >half && mv half "state-$((number % 50))"
            if [ $((number % 10)) = 0 ]; then sync -f .; rm -f "state-$((number % 40))"; fi
        done'
"""


def boot_id(session: Session, node: str) -> str:
    """The kernel's ID of the present boot of ``node``."""
    return session.on_node(node, _BOOT_ID, Timeout.BOOTING_LOGIN.seconds).strip()


def reboot(session: Session, node: str, timeout: timedelta) -> None:
    """Reboot ``node`` and wait until it is Ready again. Raises CheckError."""
    deadline = Deadline(timeout)
    before = boot_id(session, node)
    if said := session.on_node(node, "systemctl reboot --no-block 2>&1", Timeout.BOOTING_LOGIN.seconds).strip():
        raise CheckError(f"{node}: expected no message of systemctl reboot, found {said}")
    _wait_booted(session, node, before, deadline)


def cut_power(session: Session, node: str, timeout: timedelta) -> None:
    """Reset ``node`` during writes, and wait until it is Ready again. Raises CheckError.

    The machine restarts at once, as by ``echo b > /proc/sysrq-trigger``: nothing is stopped or synced, and data that
    the kernel has not yet written to the disk is lost.
    """
    deadline = Deadline(timeout)
    before = boot_id(session, node)
    files_exist = f"timeout {Timeout.WRITES.seconds:.0f} sh -c 'until [ -e {_WRITTEN}/state-49 ]; do sleep 0.1; done'"
    session.on_node(node, f"{_WRITE}\n{files_exist}")
    session.cluster.guests.qmp(node, "system_reset")
    _wait_booted(session, node, before, deadline)
    session.on_node(node, f"rm -r {_WRITTEN}")


def _wait_booted(session: Session, node: str, before: str, deadline: Deadline) -> None:
    """Wait until ``node`` has another boot id than ``before`` and is Ready. Raises CheckError."""

    def complaints() -> list[str]:
        try:
            return [] if boot_id(session, node) != before else ["it has not rebooted; look at its console log"]
        except CheckError as error:  # it does not answer while it boots
            return [str(error)]

    until_no_complaints(complaints, deadline.left(), node)
    until_no_complaints(lambda: _api_complaints(session), deadline.left(), "API server")
    kubeclient.wait_nodes_ready(session.api, [node], timeouts.seconds(deadline.left()))


def _api_complaints(session: Session) -> list[str]:
    """Why the API server does not list nodes: it may run on the node that has rebooted.

    While it starts it refuses requests (403): it does not know its own roles and bindings yet.
    """
    try:
        client.CoreV1Api(session.api).list_node(limit=1, _request_timeout=Timeout.BOOTING_API.seconds)
    except ApiException as error:
        return [f"it refuses to list nodes: {kubeclient.refusal(error)}"]
    except HTTPError as error:
        return [f"it does not answer: {error}"]
    return []


def cut_off_api(session: Session, node: str, seconds: int) -> None:
    """Drop all packets from ``node`` to the API server for ``seconds``, and wait until it is over.

    The node itself removes the rules, even when this process dies.
    """
    rules = (
        "add table ip cut_off; add chain ip cut_off output { type filter hook output priority -200; }; "
        "add chain ip cut_off forward { type filter hook forward priority -200; }; "
        f"add rule ip cut_off output tcp dport {_API_PORT} drop; add rule ip cut_off forward tcp dport {_API_PORT} drop"
    )
    # In a unit of the node, so that the end of this connection or process cannot leave it cut off.
    command = f"""
        nft '{rules}' || exit 1
        systemd-run --quiet --collect --unit=cut-off --service-type=oneshot \\
            sh -c 'sleep {seconds}; nft delete table ip cut_off'
    """
    session.on_node(node, command, seconds + Timeout.NODE_COMMAND.seconds)


def turn_clock(session: Session, node: str, ahead: timedelta) -> None:
    """Set the node's clock ``ahead`` of this machine's, accurate to about a second, the time of the command."""
    session.on_node(node, f"date -u -s @{time.time() + ahead.total_seconds():.3f}")
