"""Robot Framework library: settings, rights, crashes and updates of the driver's node agents."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver, node_agents
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session

# Set by tests; `Reset Node Agent Settings` removes them.
_SETTINGS = ("FAILPOINT", "KERNEL_EVENTS", "RESCAN_INTERVAL")


@library(scope="GLOBAL", auto_keywords=False)
class NodeAgentLibrary:
    """Changes the settings and rights of node agents, kills them, and replaces them."""

    @keyword(tags=["wait"])
    def set_node_agent_settings(
        self, rescan_interval: str, kernel_events: bool, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Set the rescan interval (``2s``) of all node agents, and whether they receive kernel events.

        They restart with it. `Reset Node Agent Settings` undoes it.
        """
        values = {"RESCAN_INTERVAL": rescan_interval, "KERNEL_EVENTS": str(kernel_events).lower()}
        current = session.current()
        driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def reset_node_agent_settings(self, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Restart the node agents with the settings of their manifest, unless they have them."""
        current = session.current()
        told = driver.agent_environment(current.api) & set(_SETTINGS)
        if told:
            values = dict.fromkeys(sorted(told), None)
            driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def let_node_agents_die_at_write(self, number: int, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Make every run of a node agent end at failpoint ``number``, its ``number``-th write, as by kill -9.

        They restart with this setting. `Reset Node Agent Settings` undoes it.
        """
        current = session.current()
        driver.set_agent_environment(current.api, {"FAILPOINT": str(number)}, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def kill_node_agent(self, node: str, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Kill the node agent's process on ``node`` with SIGKILL, and wait until the kubelet has restarted it."""
        node_agents.kill_agent(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_died(self, node: str, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until the kubelet has restarted the node agent's container on ``node``."""
        node_agents.wait_agent_died(session.current().api, node, timeout)

    @keyword(tags=["wait"])
    def wait_until_no_node_agent_runs(self, timeout: timedelta = timedelta(minutes=5)) -> None:
        """Wait until no pod of the node agents is left."""
        node_agents.wait_no_agent(session.current().api, timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_registered_within(
        self, node: str, limit: timedelta, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Check that the kubelet registered the node agent on ``node`` within ``limit`` of its start.

        Waits up to ``timeout`` for the agent's answer: after a power cut it has to start first.
        """
        seconds = node_agents.seconds_until_registered(session.current().api, node, timeout)
        logger.info(f"node agent on {node}: {seconds:.1f} s")
        if seconds > limit.total_seconds():
            raise CheckError(
                f"node agent on {node}: expected the kubelet to have registered it within "
                f"{limit.total_seconds():.0f} s of its start, it took {seconds:.1f} s; look at the kubelet's journal: "
                f"lab ssh {node} journalctl -u kubelet"
            )

    @keyword
    def start_rolling_update_of_node_agents(self) -> None:
        """Start replacing the node agents one by one, as ``kubectl rollout restart`` does, without waiting."""
        node_agents.start_rolling_update(session.current().api)

    @keyword(tags=["wait"])
    def wait_until_rolling_update_is_complete(self, timeout: timedelta = timedelta(minutes=15)) -> None:
        """Wait until the new node agent runs on every node, and no old one is left."""
        current = session.current()
        driver.wait_ready(current.api, len(current.node_names), timeout)

    @keyword
    def send_node_agents_away(self) -> None:
        """Let the node agents' DaemonSet select nodes by a label that no node has, without waiting."""
        node_agents.send_agents_away(session.current().api)

    @keyword
    def bring_node_agents_back(self) -> None:
        """Let the node agents' DaemonSet select all nodes again, without waiting."""
        node_agents.bring_agents_back(session.current().api)

    @keyword
    def remove_rights_of_node_agents(self) -> None:
        """Delete the node agents' ClusterRoleBinding."""
        node_agents.remove_rights(session.current().api)

    @keyword
    def restore_rights_of_node_agents(self) -> None:
        """Apply the driver's RBAC manifest again."""
        node_agents.restore_rights(session.current().api)
