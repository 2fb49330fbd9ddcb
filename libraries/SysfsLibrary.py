"""Robot Framework library: devices as the guests' kernels show them, read over SSH."""

from __future__ import annotations

from datetime import timedelta

from judgement import report
from robot.api import logger
from robot.api.deco import keyword, library
from scenario import CheckError, agreement, session, sysfs
from scenario.claims import AllocatedDevice
from scenario.observe import read_devices
from scenario.sysfs import NodeDevices
from scenario.waiting import until_no_complaints


@library(scope="GLOBAL", auto_keywords=False)
class SysfsLibrary:
    """Reads what the PCI bus and the mock_accel kernel module show of the devices, on all nodes at once."""

    @keyword(name="Guest PCI Bus Should Agree With Topology On NUMA Nodes")
    def guest_pci_bus_should_agree_with_topology(self) -> None:
        """Check that each guest's PCI bus has every function of the topology, VFs included, on its NUMA node."""
        current = session.current()
        report(agreement.judge(current.topology, [agreement.pci_bus(current.topology, self._read())]))

    @keyword(name="Sysfs Should Agree With Topology On NUMA Nodes")
    def sysfs_should_agree_with_topology(self) -> None:
        """Check that class mock-accel has every PF, and the VFs that are enabled, on their NUMA nodes.

        Fails only for devices that are right on the PCI bus; skips when others
        are wrong there already.
        """
        current = session.current()
        found = self._read()
        layers = [agreement.pci_bus(current.topology, found), agreement.sysfs(found)]
        report(agreement.judge(current.topology, layers))

    @keyword
    def status_registers_should_mark(self, devices: list[AllocatedDevice]) -> None:
        """Check that ``devices``, and no others of the cluster, have status register 1 (allocated)."""
        allocated = {device.key for device in devices}
        if complaints := sysfs.register_complaints(self._read(), allocated):
            raise CheckError("\n".join(complaints))

    @keyword(tags=["wait"])
    def wait_until_all_devices_are_free(self, timeout: timedelta = timedelta(seconds=30)) -> None:
        """Wait until every status register is 0; fails with the devices that are not free."""
        until_no_complaints(
            lambda: sysfs.register_complaints(self._read(), ()), timeout, "devices that nobody gave back"
        )

    def _read(self) -> list[NodeDevices]:
        found = read_devices(session.current())
        for node in found:
            lines = [
                f"{device.bdf} {device.name}: NUMA node {device.numa_node}, status {device.status}, {device.uuid}"
                for device in node.accelerators
            ]
            lines += [f"{item.bdf} on the PCI bus: NUMA node {item.numa_node}" for item in node.pci]
            logger.debug("\n".join([f"{node.node}:", *lines]))
        return found
