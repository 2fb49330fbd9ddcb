"""Robot Framework library: the pods of the driver."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kubernetes import client
from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from mock_device.checks.driver import driver, module_loading
from mock_device.checks.driver.driver import Component
from mock_device.checks.nodes import session
from mock_device.lab.base.timeouts import Timeout


@library(scope="GLOBAL", auto_keywords=False)
class DriverLibrary:
    """Waits for the driver's pods, and restarts them."""

    @keyword
    def show_kubernetes_in_report(self) -> None:
        """Show the version of Kubernetes in log and report, as metadata of the suite. For a suite's setup."""
        version: Any = client.VersionApi(session.current().api).get_code()
        BuiltIn().set_suite_metadata("Kubernetes", version.git_version)

    @keyword(tags=["wait"])
    def driver_pods_should_be_running(self, timeout: timedelta = Timeout.DRIVER_PODS.nominal) -> None:
        """Wait until the controller runs, and module loader and node agent on every node. Fails with missing ones.

        The module loader is a pod on every node; or KMM, which says on how many nodes it has loaded the module.
        It is not asked for where the nodes load the module themselves.
        """
        current = session.current()
        if current.cluster.loads_module:
            module_loading.of_cluster(current.api).wait_running(current.node_names, timeout)
        driver.wait_ready(current.api, len(current.node_names), timeout)

    @keyword(tags=["wait"])
    def restart_driver_pod(
        self, component: Component, node: str | None = None, timeout: timedelta = Timeout.DRIVER_RESTART.nominal
    ) -> None:
        """Delete the pod of ``component`` (on ``node``), and wait until its replacement is ready."""
        current = session.current()
        driver.restart(current.api, component, node, len(current.node_names), timeout)
