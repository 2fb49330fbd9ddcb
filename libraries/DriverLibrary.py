"""Robot Framework library: the driver's pods and settings, and the kernel module."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword, library

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.nodes import session


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
