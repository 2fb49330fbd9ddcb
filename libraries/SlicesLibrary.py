"""Robot Framework library: ResourceSlices, compared with topology and sysfs."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import CheckError, SkipCheck, fail_if_any
from mock_device.checks.layers import device_conditions, numa_layers, publication, standard_attributes
from mock_device.checks.nodes import session
from mock_device.checks.nodes.observe import read_devices
from mock_device.checks.objects import slice_repair, slice_writes, slices
from mock_device.lab.base import timeouts
from mock_device.lab.base.timeouts import Timeout
from mock_device.topology import DeviceId


@library(scope="GLOBAL", auto_keywords=False)
class SlicesLibrary:
    """Checks and changes the devices that the driver publishes to the scheduler."""

    @keyword(name="ResourceSlices Should Follow Sysfs", tags=["wait"])
    def slices_should_follow_sysfs(
        self, timeout: timedelta = Timeout.SLICES.nominal, within: timedelta | None = None
    ) -> None:
        """Wait until exactly the devices that sysfs shows now on all nodes are published, each once.

        Names, labels, pools, all attributes and capacities are compared. Fails
        with all differences.

        ``within`` is a limit that the test checks; unlike ``timeout`` it is not multiplied on slow machines.
        """
        current = session.current()
        found = read_devices(current)
        slices.wait_published(
            current.api,
            lambda published: publication.complaints(current.topology, found, published),
            timeouts.exactly(within) if within else timeout,
            "ResourceSlices to describe what sysfs shows",
        )

    @keyword(name="ResourceSlices Should Stay As They Are")
    def slices_should_stay_as_they_are(self, duration: timedelta = timedelta(seconds=20)) -> None:
        """Watch the driver's ResourceSlices for ``duration``: none must be created, written or deleted.

        For an idle cluster. Fails with the slices, their generations, and the field
        managers that wrote them.
        """
        writes = slice_writes.follow(session.current().api, duration)
        logger.info(f"{len(writes.names)} ResourceSlices, {writes.count} writes in {duration.total_seconds():.0f} s")
        fail_if_any(writes.complaints(), "expected no writes of ResourceSlices on an idle cluster, found:")

    @keyword(name="Count ResourceSlices")
    def count_slices(self, label_selector: str) -> int:
        """Return how many ResourceSlices ``kubectl get resourceslices -l <label_selector>`` lists."""
        count = slices.count_slices(session.current().api, label_selector)
        logger.info(f"{count} ResourceSlices with {label_selector}")
        return count

    @keyword(name="Delete ResourceSlice Of Device")
    def delete_slice_of_device(self, node: str, device: str) -> None:
        """Delete the ResourceSlice of ``device`` (name in sysfs), without the driver."""
        slices.delete_slice(session.current().api, _slice_of(node, device))

    @keyword(name="Change ResourceSlice Of Device")
    def change_slice_of_device(self, node: str, device: str) -> None:
        """Change the published UUID of ``device`` (name in sysfs), without the driver."""
        slices.change_slice(session.current().api, _slice_of(node, device))

    @keyword
    def get_published_devices(self) -> slice_repair.Content:
        """Return what the driver publishes now, for `Published Devices Should Be`; fails if that is nothing."""
        found = slice_repair.content(slices.published(session.current().api))
        if not found:
            raise CheckError("expected the driver to publish devices, found none; look at: lab slices")
        logger.info("\n".join(f"{name}: {device}" for name, device in found.items()))
        return found

    @keyword(tags=["wait"])
    def published_devices_should_be(
        self, expected: slice_repair.Content, timeout: timedelta = Timeout.RESTORED.nominal
    ) -> None:
        """Wait until all pools are complete and publish the ``expected`` devices, each once, with the same attributes.

        In which slices they are does not count.
        """
        slice_repair.wait_restored(session.current().api, expected, timeout)

    @keyword(name="Delete ResourceSlices Of Node")
    def delete_slices_of_node(self, node: str) -> None:
        """Delete all ResourceSlices of the driver on ``node``, without the driver."""
        logger.info(", ".join(slice_repair.delete_of_node(session.current().api, node)))

    @keyword(name="Change A ResourceSlice Of Node")
    def change_a_slice_of_node(self, node: str) -> None:
        """Remove the attributes of a device that is published for ``node``, without the driver."""
        logger.info(slice_repair.strip_first(session.current().api, node))

    @keyword
    def standard_attributes_should_agree_with_topology(self) -> None:
        """Check NUMA node and PCIe root of all devices that have a PCI address, by the standard attributes.

        Skips if no device has ``resource.kubernetes.io/pciBusID``.
        """
        current = session.current()
        published = slices.published(current.api)
        if not standard_attributes.addressed(published):
            raise SkipCheck(f"not offered: the driver publishes no {standard_attributes.BUS_ID}")
        fail_if_any(standard_attributes.complaints(current.topology, published))

    @keyword(name="ResourceSlices Should Agree With Topology On NUMA Nodes")
    def slices_should_agree_with_topology(self) -> None:
        """Check that every device is published once, on its NUMA node of the topology.

        Compares the driver's attribute and the standard one. Fails only for devices
        that are correct in sysfs; skips when the others are wrong there already.
        """
        current = session.current()
        found = read_devices(current)
        published = slices.published(current.api)
        layers = [
            numa_layers.pci_bus(current.topology, found),
            numa_layers.sysfs(found),
            numa_layers.slices(published),
        ]
        numa_layers.judge(current.topology, layers).enforce()

    @keyword(tags=["wait"])
    def device_should_be_tainted(
        self, node: str, device: str, value: str, timeout: timedelta = Timeout.TAINTED.nominal
    ) -> None:
        """Wait until ``device`` (name in sysfs) is published with a taint of ``value``."""
        _wait_for_taint(node, device, value, timeout)

    @keyword(tags=["wait"])
    def device_should_not_be_tainted(
        self, node: str, device: str, timeout: timedelta = Timeout.TAINTED.nominal
    ) -> None:
        """Wait until ``device`` (name in sysfs) is published without a taint."""
        _wait_for_taint(node, device, "", timeout)


def _slice_of(node: str, device: str) -> str:
    return slices.slice_of(slices.published(session.current().api), DeviceId(node, device))


def _wait_for_taint(node: str, device: str, value: str, timeout: timedelta) -> None:
    slices.wait_published(
        session.current().api,
        lambda published: device_conditions.taint_complaints(published, DeviceId(node, device), value),
        timeout,
        f"{device} on {node} to have {f'taint {value}' if value else 'no taint'}",
    )
