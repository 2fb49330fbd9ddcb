"""Robot Framework library: the kernel module mock_accel on the nodes."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import driver
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import session
from mock_device.checks.nodes.observe import read_module_states
from mock_device.checks.nodes.sysfs import MODULE_LIVE


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
            if state != MODULE_LIVE:
                driver.load_module(current.api, node)

    @keyword
    def unload_kernel_module(self, node: str) -> None:
        """Unload mock_accel on ``node``. Fails while a device of the node is allocated."""
        driver.unload_module(session.current().api, node)

    @keyword
    def kernel_module_should_refuse_to_unload(self, node: str) -> None:
        """Check that ``modprobe -r`` on ``node`` fails because the module is in use."""
        try:
            driver.unload_module(session.current().api, node)
        except CheckError as error:
            if "in use" not in str(error):
                raise CheckError(f"{node}: expected 'in use' as the reason, found: {error}") from error
            logger.info(str(error))
            return
        raise CheckError(f"{node}: expected the kernel module to stay while a device is in use, it was unloaded")

    @keyword
    def kernel_module_should_be_loaded(self) -> None:
        """Check that mock_accel is loaded and live on every node."""
        states = read_module_states(session.current())
        wrong = [
            f"{node}: expected {MODULE_LIVE}, found {state}" for node, state in states.items() if state != MODULE_LIVE
        ]
        if wrong:
            raise CheckError(
                f"kernel module mock_accel: {'; '.join(wrong)}; look at the pods of {Component.MODULE_LOADER.value}"
            )
