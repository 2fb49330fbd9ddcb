"""Robot Framework library: the kernel module mock_accel on the nodes."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import module_loading
from mock_device.checks.driver.module_loading import ModuleControl
from mock_device.checks.errors import SkipCheck, fail_if_any, refusal
from mock_device.checks.nodes import session, sysfs
from mock_device.checks.nodes.observe import read_module_states
from mock_device.checks.objects import others


@library(scope="GLOBAL", auto_keywords=False)
class KernelModuleLibrary:
    """Loads and unloads mock_accel through what brought it: pods of a DaemonSet, or the KMM operator."""

    @keyword
    def load_kernel_module(self, node: str) -> None:
        """Load mock_accel on ``node`` if it is not loaded."""
        current = session.current()
        if read_module_states(current)[node] != sysfs.MODULE_LIVE:
            module_loading.of_cluster(current.api).load(node)

    @keyword
    def load_kernel_module_everywhere(self) -> None:
        """Load mock_accel on all nodes where it is not loaded."""
        current = session.current()
        # Reading the state takes a tenth of the time of modprobe in a container.
        for node, state in read_module_states(current).items():
            if state != sysfs.MODULE_LIVE:
                module_loading.of_cluster(current.api).load(node)

    @keyword
    def unload_kernel_module(self, node: str) -> None:
        """Unload mock_accel on ``node``. Fails while a device of the node is allocated.

        Skips the test where the nodes load the module themselves, or others use devices of ``node``.
        """
        _control(node).unload(node)

    @keyword
    def get_remedy_for_unloaded_module(self, node: str) -> str:
        """Part of the command that ``lab diagnose`` should propose after mock_accel was unloaded on ``node``."""
        return module_loading.of_cluster(session.current().api).remedy(node)

    @keyword
    def kernel_module_should_refuse_to_unload(self, node: str) -> None:
        """Check that ``modprobe -r`` on ``node`` fails because the module is in use."""
        control = _control(node)
        logger.info(refusal(f"modprobe -r on {node}", lambda: control.unload(node), "in use"))

    @keyword
    def kernel_module_should_be_loaded(self) -> None:
        """Check that mock_accel is loaded and live on every node."""
        current = session.current()
        if complaints := sysfs.module_complaints(read_module_states(current)):
            fail_if_any(complaints, module_loading.of_cluster(current.api).where_to_look)


def _control(node: str) -> ModuleControl:
    """What can unload the module on ``node``. Raises SkipCheck if tests may not."""
    current = session.current()
    if not current.cluster.loads_module:
        raise SkipCheck(f"the nodes of cluster {current.cluster.name!r} load the kernel module themselves")
    if users := sorted({claim for device, claim in others.held(current.api).items() if device.node == node}):
        raise SkipCheck(f"devices of {node} are in use by others: {', '.join(users)}")
    return module_loading.of_cluster(current.api)
