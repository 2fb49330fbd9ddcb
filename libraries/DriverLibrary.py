"""Robot Framework library: the driver's pods and settings, and the kernel module."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library
from scenario import driver, session
from scenario.driver import Component
from scenario.observe import read_module_states
from scenario.sysfs import MODULE_LIVES

# What tests tell the node agents, and `Reset Node Agent Settings` takes back.
_SETTINGS = ("FAULT_AT", "KERNEL_EVENTS", "RESCAN_INTERVAL")


@library(scope="GLOBAL", auto_keywords=False)
class DriverLibrary:
    """Restarts parts of the driver, and changes their settings."""

    @keyword(tags=["wait"])
    def driver_pods_should_be_running(self, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Wait until module loader and node agent run on every node, and the controller; fails with what is missing."""
        current = session.current()
        driver.wait_ready(current.api, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def restart_driver_pod(
        self, component: Component, node: str | None = None, timeout: timedelta = timedelta(minutes=5)
    ) -> None:
        """Delete the pod of ``component`` (the one on ``node``) and wait until its successor is ready."""
        current = session.current()
        driver.restart(current.api, component, node, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def set_node_agent_settings(
        self, rescan_interval: str, kernel_events: bool, timeout: timedelta = timedelta(minutes=10)
    ) -> None:
        """Let all node agents rescan every ``rescan_interval`` (``2s``), and listen to ``kernel_events`` or not.

        They restart. `Reset Node Agent Settings` takes it back.
        """
        values = {"RESCAN_INTERVAL": rescan_interval, "KERNEL_EVENTS": str(kernel_events).lower()}
        current = session.current()
        driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def reset_node_agent_settings(self, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Let the node agents run with what their manifest says; they restart if they were told something else."""
        current = session.current()
        told = driver.agent_environment(current.api) & set(_SETTINGS)
        if told:
            values = dict.fromkeys(sorted(told), None)
            driver.set_agent_environment(current.api, values, len(current.node_names), timeout)

    @keyword
    def load_kernel_module(self, node: str) -> None:
        """Load mock_accel on ``node``, from the image that carries it; nothing happens when it is loaded."""
        driver.load_module(session.current().api, node)

    @keyword
    def load_kernel_module_everywhere(self) -> None:
        """Load mock_accel on all nodes; nothing happens where it is loaded."""
        current = session.current()
        # Looking costs a tenth of what starting modprobe in a container does.
        for node, state in read_module_states(current).items():
            if state != MODULE_LIVES:
                driver.load_module(current.api, node)

    @keyword
    def unload_kernel_module(self, node: str) -> None:
        """Unload mock_accel on ``node``; fails while a device there is allocated."""
        driver.unload_module(session.current().api, node)
