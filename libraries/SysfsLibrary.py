"""Robot Framework library: devices as the guests' kernels show them, over SSH."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, fail_if_any
from mock_device.checks.layers import allocation, numa_layers
from mock_device.checks.nodes import lspci, session, sysfs
from mock_device.checks.nodes.device_selection import SlotOfNode
from mock_device.checks.nodes.observe import read_devices
from mock_device.checks.nodes.sysfs import CLASS_FOLDER, NodeDevices
from mock_device.checks.objects import kube, others
from mock_device.checks.objects.claims import AllocatedDevice
from mock_device.checks.waiting import until_no_complaints
from mock_device.driver import current
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import DeviceId


@library(scope="GLOBAL", auto_keywords=False)
class SysfsLibrary:
    """Reads devices from the PCI bus and from the mock_accel kernel module, on all nodes at once."""

    @keyword(name="Guest PCI Bus Should Agree With Topology On NUMA Nodes")
    def guest_pci_bus_should_agree_with_topology(self) -> None:
        """Check that each guest's PCI bus has every PF of the topology on its NUMA node, and enabled VFs, too."""
        current = session.current()
        numa_layers.judge(current.topology, [numa_layers.pci_bus(current.topology, self._read())]).enforce()

    @keyword(name="Sysfs Should Agree With Topology On NUMA Nodes")
    def sysfs_should_agree_with_topology(self) -> None:
        """Check that class mock-accel has every PF and every enabled VF on its NUMA node.

        Fails only for devices that are correct on the PCI bus; skips when the others
        are wrong there already.
        """
        current = session.current()
        found = self._read()
        layers = [numa_layers.pci_bus(current.topology, found), numa_layers.sysfs(found)]
        numa_layers.judge(current.topology, layers).enforce()

    @keyword
    def lspci_should_show_all_devices(self) -> None:
        """Check that ``lspci`` lists on each node exactly the functions of the topology, at their addresses.

        VFs may be missing: they are on the bus only while they are enabled.
        """
        current = session.current()
        complaints = []
        for node, output in current.on_nodes(lspci.COMMAND).items():
            logger.info(f"{node}:\n{output}")
            complaints += lspci.complaints(current.topology.node(node), lspci.parse(node, output))
        fail_if_any(complaints)

    @keyword(tags=["wait"])
    def sysfs_should_describe_all_devices(
        self, but: SlotOfNode | None = None, timeout: timedelta = Timeout.NODE_STATE.nominal
    ) -> None:
        """Wait until class mock-accel has every PF and every enabled VF with all values of the topology.

        Devices of slot ``but`` must be missing. Fails with all differences.
        """
        current = session.current()
        absent = [DeviceId(but.node, function.name) for function in but.functions] if but else []
        until_no_complaints(
            lambda: sysfs.value_complaints(current.topology, self._read(), absent),
            timeout,
            "expected sysfs to agree with the topology",
        )

    @keyword(tags=["wait"])
    def sysfs_should_show_no_devices(self, node: str, timeout: timedelta = Timeout.NODE_STATE.nominal) -> None:
        """Wait until class mock-accel of ``node`` is empty or missing, as without the kernel module."""

        def complaints() -> list[str]:
            shown = [device.name for item in self._read() if item.node == node for device in item.accelerators]
            return [f"{node}: expected no device in /sys/class/mock-accel, found {', '.join(shown)}"] if shown else []

        until_no_complaints(complaints, timeout, "expected no devices")

    @keyword
    def status_registers_should_mark(self, devices: list[AllocatedDevice]) -> None:
        """Check that exactly ``devices`` of all devices of the cluster have status register 1 (allocated).

        Devices that are allocated with administrative access only must not have it.
        Devices that other users of the cluster hold are not judged.
        """
        allocated = {device.id for device in devices if not device.admin_access}
        fail_if_any(sysfs.register_complaints(self._read(), allocated, others.held(session.current().api)))

    @keyword(tags=["wait"])
    def wait_until_status_registers_mark(
        self,
        devices: list[AllocatedDevice],
        timeout: timedelta = Timeout.NODE_STATE.nominal,
        within: timedelta | None = None,
    ) -> None:
        """Like `Status Registers Should Mark`, and waits until the driver has corrected the registers.

        ``within`` is a limit that the test checks; unlike ``timeout`` it is not multiplied on slow machines.
        """

        def complaints() -> list[str]:
            try:
                self.status_registers_should_mark(devices)
            except CheckError as error:
                return [str(error)]
            return []

        limit = timeouts.exactly(within) if within else timeout
        until_no_complaints(complaints, limit, "expected status registers of allocated devices only to be 1")

    @keyword
    def reset_device(self, device: AllocatedDevice) -> None:
        """Reset the PCI function of ``device`` through its node's kernel, as an administrator does."""
        session.current().on_node(device.node, f"echo 1 > {CLASS_FOLDER}/{device.name}/device/reset")

    @keyword(tags=["wait"])
    def wait_until_all_devices_are_free(self, timeout: timedelta = Timeout.NODE_STATE.nominal) -> None:
        """Wait until every status register is 0. Fails with the devices that are not free.

        If the driver does not promise the registers, until no claim has a device.

        Devices that other users of the cluster hold are not judged.
        """
        api = session.current().api

        def complaints() -> list[str]:
            held = others.held(api)
            if "status-register" in current.driver().promises:
                return sysfs.register_complaints(self._read(), (), held)
            return allocation.still_allocated(kube.allocated_devices(api), held)

        until_no_complaints(complaints, timeout, "expected all devices to be free")

    @keyword
    def write_status_register(self, node: str, device: str, value: int) -> None:
        """Write the status register of ``device`` on ``node`` as an administrator, without the driver."""
        session.current().on_node(node, f"echo {value} > {CLASS_FOLDER}/{device}/status")

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
