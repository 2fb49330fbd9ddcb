"""Robot Framework library: nodes, their power, network, clock, kubelet and container runtime."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import node_services, power, runtime, session
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.kube import kubeclient


@library(scope="GLOBAL", auto_keywords=False)
class NodesLibrary:
    """Waits for nodes, reboots them, restarts their services, and breaks their clock or network."""

    @keyword(tags=["wait"])
    def nodes_should_be_ready(self, timeout: timedelta = Timeout.NODES.nominal) -> None:
        """Wait until every node of the topology is Ready. Fails with the conditions of the others."""
        current = session.current()
        kubeclient.wait_nodes_ready(current.api, current.node_names, timeouts.seconds(timeout))

    @keyword
    def default_container_runtime_should_be_as_in_the_profile(self) -> None:
        """Check on every node that its default OCI runtime is the one of the cluster's profile.

        If the profile names none, any is right.
        """
        current = session.current()
        outputs, name = current.on_nodes(lambda found: found.dump_config), current.cluster.default_runtime
        fail_if_any(filter(None, (runtime.complaint(node, output, name) for node, output in outputs.items())))
        logger.info(", ".join(f"{node}: {runtime.default_runtime(output).name}" for node, output in outputs.items()))

    @keyword
    def get_default_container_runtime(self, node: str) -> str:
        """Name of the default OCI runtime of ``node``."""
        output = session.current().on_node(node, lambda found: found.dump_config)
        return runtime.default_runtime(output).name

    @keyword(tags=["wait"])
    def restart_kubelet(self, node: str, timeout: timedelta = Timeout.KUBELET.nominal) -> None:
        """Restart the kubelet of ``node``, and wait until it lists all its pods again."""
        node_services.restart_kubelet(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def restart_containerd(self, node: str, timeout: timedelta = Timeout.KUBELET.nominal) -> None:
        """Restart containerd of ``node``, and wait until the kubelet has reconnected to it. Containers keep running."""
        node_services.restart_containerd(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def reboot_node(self, node: str, timeout: timedelta = Timeout.REBOOT.nominal) -> None:
        """Reboot ``node``, and wait until it is Ready again."""
        power.reboot(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def cut_power_of_node(self, node: str, timeout: timedelta = Timeout.REBOOT.nominal) -> None:
        """Reset ``node`` during writes, without stopping or syncing anything, and wait until it is Ready again."""
        power.cut_power(session.current(), node, timeout)

    @keyword(name="Cut Node Off From API Server", tags=["wait"])
    def cut_node_off_from_api_server(self, node: str, duration: timedelta) -> None:
        """Drop all packets from ``node`` and its pods to the API server for ``duration``, and wait until it is over."""
        power.cut_off_api(session.current(), node, int(duration.total_seconds()))

    @keyword
    def turn_clock(self, node: str, ahead: timedelta) -> None:
        """Set the clock of ``node`` to be ``ahead`` of this machine's; ``0 seconds`` corrects it."""
        power.turn_clock(session.current(), node, ahead)

    @keyword
    def set_default_container_runtime(self, node: str, name: str) -> None:
        """Make ``name``, an OCI runtime that containerd knows, the default of ``node``, and restart containerd."""
        node_services.set_default_runtime(session.current(), node, name)
