"""Robot Framework library: nodes of the cluster, their power, clock, kubelet and containerd."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import node_services, power, runtime, session
from mock_device.lab.kube import kubeclient


@library(scope="GLOBAL", auto_keywords=False)
class NodesLibrary:
    """Waits for nodes, reboots them, and breaks what they run on."""

    @keyword(tags=["wait"])
    def nodes_should_be_ready(self, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Wait until every node of the topology is Ready; fails with what the others lack."""
        current = session.current()
        kubeclient.wait_nodes_ready(current.api, current.node_names, timeout.total_seconds())

    @keyword
    def default_container_runtime_should_be(self, name: str) -> None:
        """Check on every node which OCI runtime containerd uses for a pod that asks for none."""
        outputs = session.current().on_nodes(runtime.PROBE)
        found = {node: runtime.default_runtime(output) for node, output in outputs.items()}
        wrong = [
            f"{node}: expected default runtime {name}, found {item.name} ({item.binary or 'no binary given'})"
            for node, item in found.items()
            if item.name != name or item.binary.rpartition("/")[2] != name
        ]
        if wrong:
            raise CheckError("\n".join(wrong))

    @keyword(tags=["wait"])
    def restart_kubelet(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Restart the kubelet of ``node``, and wait until it knows its pods again."""
        node_services.restart_kubelet(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def restart_containerd(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Restart containerd of ``node``, and wait until the kubelet has found it again; containers go on."""
        node_services.restart_containerd(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def reboot_node(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Reboot the guest and wait until the node is Ready again."""
        power.reboot(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def cut_power_of_node(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Reset the guest while it writes, with nothing ended or synced, and wait until the node is Ready again."""
        power.cut_power(session.current(), node, timeout)

    @keyword(name="Cut Node Off From API Server", tags=["wait"])
    def cut_node_off_from_api_server(self, node: str, duration: timedelta) -> None:
        """Drop what kubelet and pods of ``node`` send to the API server for ``duration``, and wait for its end."""
        power.cut_off_api(session.current(), node, int(duration.total_seconds()))

    @keyword
    def turn_clock(self, node: str, ahead: timedelta) -> None:
        """Let the clock of ``node`` be ``ahead`` of this machine's; 0 makes it right again."""
        power.turn_clock(session.current(), node, ahead)

    @keyword
    def set_default_container_runtime(self, node: str, name: str) -> None:
        """Let containerd of ``node`` run containers by ``name``, a runtime of its configuration; it restarts."""
        node_services.set_default_runtime(session.current(), node, name)
