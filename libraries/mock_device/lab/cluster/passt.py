"""Starts passt(1), the user-mode network through which a cluster reaches the outside."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack

from mock_device.lab.base.commands import search_path
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import ClusterPaths
from mock_device.lab.build import prerequisites
from mock_device.lab.controlplane.addresses import OUTSIDE_ADDRESS, OUTSIDE_DNS, OUTSIDE_GATEWAY, PREFIX_LENGTH


def argv(descriptor: int) -> list[str]:
    """Command line of passt, which serves one client at the connected socket ``descriptor`` and ends with it."""
    return [
        "passt",
        "--foreground",
        "--stderr",
        "--ipv4-only",
        f"--fd={descriptor}",
        f"--address={OUTSIDE_ADDRESS}",
        f"--netmask={PREFIX_LENGTH}",
        f"--gateway={OUTSIDE_GATEWAY}",
        f"--dns-forward={OUTSIDE_DNS}",
        # Services on this machine's loopback stay out of reach.
        "--no-map-gw",
        "--no-dhcp",
        "--tcp-ports=none",
        "--udp-ports=none",
    ]


def start(paths: ClusterPaths, stack: ExitStack) -> socket.socket:
    """Start passt in this network namespace and return the cluster's end of its socket, which ``stack`` closes here.

    passt ends when the last process with that end has ended. Raises StepError if it cannot be run.
    """
    prerequisites.need(prerequisites.PASST)
    ours, its = (stack.enter_context(side) for side in socket.socketpair())
    with paths.passt_log.open("ab") as log:
        try:
            subprocess.Popen(
                argv(its.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[its.fileno()],
                env={"PATH": search_path()},
                start_new_session=True,
            )
        except OSError as error:
            raise StepError(f"cannot run passt: {error}", paths.passt_log) from error
    return ours
