"""Robot Framework library: the kernel module mock_accel on the nodes."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import fail_if_any, refusal
from mock_device.checks.nodes import session, sysfs
from mock_device.checks.nodes.observe import read_module_states


@library(scope="GLOBAL", auto_keywords=False)
class KernelModuleLibrary:
    """Loads and unloads mock_accel through the pod that carries it."""

    @keyword
    def load_kernel_module(self, node: str) -> None:
        """Load mock_accel on ``node`` if it is not loaded."""
        driver.load_module(session.current().api, node)

    @keyword
    def load_kernel_module_everywhere(self) -> None:
        """Load mock_accel on all nodes where it is not loaded."""
        current = session.current()
        # Reading the state takes a tenth of the time of modprobe in a container.
        for node, state in read_module_states(current).items():
            if state != sysfs.MODULE_LIVE:
                driver.load_module(current.api, node)

    @keyword
    def unload_kernel_module(self, node: str) -> None:
        """Unload mock_accel on ``node``. Fails while a device of the node is allocated."""
        driver.unload_module(session.current().api, node)

    @keyword
    def kernel_module_should_refuse_to_unload(self, node: str) -> None:
        """Check that ``modprobe -r`` on ``node`` fails because the module is in use."""
        api = session.current().api
        logger.info(refusal(f"modprobe -r on {node}", lambda: driver.unload_module(api, node), "in use"))

    @keyword
    def kernel_module_should_be_loaded(self) -> None:
        """Check that mock_accel is loaded and live on every node."""
        fail_if_any(
            sysfs.module_complaints(read_module_states(session.current())),
            f"look at the pods of {Component.MODULE_LOADER.value}:",
        )
