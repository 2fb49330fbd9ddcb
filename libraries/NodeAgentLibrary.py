"""Robot Framework library: the driver's node agents: settings, rights, crashes and updates."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver, node_agents
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.driver import current as in_use
from mock_device.lab.base.timeouts import Timeout

# Set by tests; `Reset Node Agent Settings` removes them.
_SETTINGS = ("FAILPOINT", "KERNEL_EVENTS", "RESCAN_INTERVAL", "RESET_AFTER")


@library(scope="GLOBAL", auto_keywords=False)
class NodeAgentLibrary:
    """Changes the settings of node agents, kills them, and replaces them."""

    @keyword(tags=["wait"])
    def set_node_agent_settings(
        self, rescan_interval: str, kernel_events: bool, timeout: timedelta = Timeout.AGENT_SETTINGS.nominal
    ) -> None:
        """Let all node agents rescan every ``rescan_interval`` (``2s``), and listen to ``kernel_events`` or not.

        They restart. `Reset Node Agent Settings` undoes this.
        """
        values = {"RESCAN_INTERVAL": rescan_interval, "KERNEL_EVENTS": str(kernel_events).lower()}
        current = session.current()
        driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def set_reset_delay_of_node_agents(self, delay: str, timeout: timedelta = Timeout.AGENT_SETTINGS.nominal) -> None:
        """Let all node agents reset a hung or failed device after ``delay`` (``10s``), or ``never``.

        They restart. `Reset Node Agent Settings` undoes this.
        """
        current = session.current()
        driver.set_agent_environment(current.api, {"RESET_AFTER": delay}, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def reset_node_agent_settings(self, timeout: timedelta = Timeout.AGENT_SETTINGS.nominal) -> None:
        """Give the node agents the settings of their manifest; they restart if they had others.

        Those of other drivers than this project's (``project-agent``) have none of these settings.
        """
        if "project-agent" not in in_use.driver().promises:
            return
        current = session.current()
        told = driver.agent_environment(current.api) & set(_SETTINGS)
        if told:
            values = dict.fromkeys(sorted(told), None)
            driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def let_node_agents_die_at_write(self, number: int, timeout: timedelta = Timeout.AGENT_SETTINGS.nominal) -> None:
        """Make every run of the node agents end at its failpoint ``number``, as after kill -9.

        A failpoint is a point between two writes. The agents restart. `Reset Node Agent Settings` undoes this.
        """
        current = session.current()
        driver.set_agent_environment(current.api, {"FAILPOINT": str(number)}, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def kill_node_agent(self, node: str, timeout: timedelta = Timeout.AGENT_CRASH.nominal) -> None:
        """Kill the node agent's process on ``node`` (SIGKILL), and wait until the kubelet has restarted it."""
        node_agents.kill_agent(session.current(), node, timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_died(self, node: str, timeout: timedelta = Timeout.DRIVER_RESTART.nominal) -> None:
        """Wait until the kubelet has restarted the node agent's container on ``node`` once."""
        node_agents.wait_agent_died(session.current().api, node, timeout)

    @keyword(tags=["wait"])
    def wait_until_no_node_agent_runs(self, timeout: timedelta = Timeout.DRIVER_RESTART.nominal) -> None:
        """Wait until the last pod of the node agents is gone."""
        node_agents.wait_no_agent(session.current().api, timeout)

    @keyword(tags=["wait"])
    def node_agent_should_have_registered_within(
        self, node: str, limit: timedelta, timeout: timedelta = Timeout.AGENT_REGISTERED.nominal
    ) -> None:
        """Check how long the node agent on ``node`` took from its start until the kubelet knew it.

        Waits up to ``timeout`` until the agent answers: after a power cut it has to start first.
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
        """Replace the node agents one after the other, as ``kubectl rollout restart`` does; does not wait."""
        node_agents.start_rolling_update(session.current().api)

    @keyword(tags=["wait"])
    def wait_until_rolling_update_is_complete(self, timeout: timedelta = Timeout.ROLLING_UPDATE.nominal) -> None:
        """Wait until the newest node agent runs on every node, and no older one."""
        current = session.current()
        driver.wait_ready(current.api, len(current.node_names), timeout)

    @keyword
    def send_node_agents_away(self) -> None:
        """Let the node agents' DaemonSet select a label that no node has; returns before they are gone."""
        node_agents.send_agents_away(session.current().api)

    @keyword
    def bring_node_agents_back(self) -> None:
        """Let the DaemonSet select all nodes again; returns before the agents are ready."""
        node_agents.bring_agents_back(session.current().api)

    @keyword
    def remove_rights_of_node_agents(self) -> None:
        """Take the node agents' service account out of their ClusterRoleBinding."""
        node_agents.remove_rights(session.current().api)

    @keyword
    def restore_rights_of_node_agents(self) -> None:
        """Bind the node agents' service account again."""
        node_agents.restore_rights(session.current().api)
