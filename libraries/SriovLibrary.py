"""Robot Framework library: virtual functions, enabled and disabled over SSH, as an administrator does."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import fail_if_any, refusal
from mock_device.checks.nodes import session, sriov
from mock_device.checks.nodes.sriov import Refusal
from mock_device.lab.cluster.discovery import vfs_command
from mock_device.topology import Function


@library(scope="GLOBAL", auto_keywords=False)
class SriovLibrary:
    """Writes ``sriov_numvfs`` of PFs, and checks their VFs in sysfs."""

    @keyword(name="Enable VFs")
    def enable_vfs(self, node: str, pf: Function, count: int) -> None:
        """Enable ``count`` VFs of ``pf`` on ``node``; 0 disables them.

        If another number is enabled, these VFs are disabled first: the kernel
        changes the number only from and to 0. Fails when one of them is allocated.
        """
        session.current().on_node(node, vfs_command({pf.name: count}))

    @keyword(name="Enable All VFs")
    def enable_all_vfs(self, node: str) -> None:
        """Enable all VFs that the topology declares for PFs of ``node``."""
        current = session.current()
        counts = {pf.name: pf.total_vfs for pf in current.topology.node(node).pfs if pf.total_vfs}
        current.on_node(node, vfs_command(counts))

    @keyword(name="Disable All VFs")
    def disable_all_vfs(self) -> None:
        """Disable all VFs on all nodes that were not enabled before tests. Fails when a VF is allocated."""
        current = session.current()
        before = current.cluster.vfs_before_tests
        if any(count for counts in before.values() for count in counts.values()):
            outputs = {
                node: current.on_node(node, sriov.restore_command(before.get(node, {}))) for node in current.node_names
            }
        else:
            outputs = current.on_nodes(sriov.restore_command({}))
        for node, output in outputs.items():
            if output.strip():
                logger.info(f"{node}: disabled the VFs of {', '.join(output.split())}")

    @keyword(name="Number Of VFs Should Be Refused")
    def number_of_vfs_should_be_refused(self, node: str, pf: Function, number: str, because: Refusal) -> None:
        """Check that the kernel module refuses ``number`` (any text) VFs of ``pf`` with error ``because``."""
        write = sriov.command(pf.name, number)
        what = f"{node} {pf.name}: {number} VFs"
        logger.info(refusal(what, lambda: session.current().on_node(node, write), because.value))

    @keyword(name="Only These VFs Should Be Enabled")
    def only_these_vfs_should_be_enabled(self, node: str, pf: Function, count: int) -> None:
        """Check on ``node`` that sysfs has the first ``count`` VFs of ``pf``, and no others but those before tests.

        ``sriov_totalvfs``, ``sriov_numvfs``, and the links ``physfn`` and
        ``virtfnN`` of the PCI devices must agree with that.
        """
        current = session.current()
        output = current.on_node(node, sriov.PROBE)
        logger.info(output)
        found = sriov.parse(node, output)
        enabled = {**current.cluster.vfs_before_tests.get(node, {}), pf.name: count}
        fail_if_any(sriov.complaints(current.topology.node(node), found, enabled))

    @keyword(name="No VF Should Be Enabled")
    def no_vf_should_be_enabled(self) -> None:
        """Check on all nodes that sysfs has no VFs but those that were enabled before tests.

        PFs must report the topology's number of possible VFs.
        """
        current = session.current()
        complaints = []
        for node, output in current.on_nodes(sriov.PROBE).items():
            logger.info(f"{node}:\n{output}")
            before = current.cluster.vfs_before_tests.get(node, {})
            complaints += sriov.complaints(current.topology.node(node), sriov.parse(node, output), before)
        fail_if_any(complaints)
