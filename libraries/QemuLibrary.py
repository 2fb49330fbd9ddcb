"""Robot Framework library: guests and their devices, through QEMU's monitor."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.errors import fail_if_any
from mock_device.checks.nodes import qemu, session
from mock_device.checks.nodes.device_selection import SlotOfNode
from mock_device.lab.cluster.cluster import Capability


@library(scope="GLOBAL", auto_keywords=False)
class QemuLibrary:
    """Reads the state of guests, plugs and unplugs their devices, and stops their device servers."""

    @keyword
    def guests_should_be_running(self) -> None:
        """Check that every guest of the topology runs in QEMU, none paused or stopped."""
        current = session.current()
        states = {name: current.cluster.guests.qmp(name, "query-status")["status"] for name in current.node_names}
        fail_if_any(qemu.state_complaints(states), f"look at the consoles in {current.cluster.log_dir}:")

    @keyword
    def guests_should_have_all_devices_plugged(self) -> None:
        """Check that each guest has exactly the functions of the topology, including VFs, at their PCI addresses."""
        current = session.current()
        complaints: list[str] = []
        for node in current.topology.nodes:
            found = qemu.accelerators(current.cluster.guests.qmp(node.name, "query-pci"))
            logger.info(f"{node.name}: {', '.join(f'{name} {bdf}' for name, bdf in sorted(found.items()))}")
            complaints += qemu.plug_complaints(node, found)
        fail_if_any(complaints)

    @keyword
    def unplug_slot(self, slot: SlotOfNode) -> None:
        """Hot-unplug all devices of a slot, and wait until the guest has released them."""
        session.current().cluster.guests.unplug(slot.node, slot.slot.root_port)

    @keyword
    def plug_slot(self, slot: SlotOfNode) -> None:
        """Hot-plug the devices of a slot, without waiting until the guest has found them."""
        session.current().cluster.guests.plug(slot.node, slot.slot.root_port)

    @keyword
    def kill_device_server(self, node: str) -> None:
        """Kill the device server of ``node``. Its devices stay on the PCI bus, but do not answer."""
        session.current().cluster.guests.kill_device_server(node)

    @keyword
    def restart_device_server(self, node: str) -> None:
        """Start the device server of ``node`` again, and replug all devices: they have lost their connection to it."""
        current = session.current()
        current.cluster.guests.start_device_server(node)
        for slot in current.topology.node(node).slots:
            current.cluster.guests.unplug(node, slot.root_port)
            current.cluster.guests.plug(node, slot.root_port)

    @keyword
    def plug_all_devices(self) -> None:
        """Hot-plug the devices of all empty slots, without waiting until the guests have found them.

        Does nothing on a cluster without hot-plug, whose devices no test has unplugged.
        """
        current = session.current()
        if Capability.HOTPLUG not in current.cluster.capabilities:
            return
        for node in current.topology.nodes:
            found = qemu.accelerators(current.cluster.guests.qmp(node.name, "query-pci"))
            for slot in qemu.empty_slots(node, found):
                logger.info(f"{node.name}: plugging {slot.root_port}")
                current.cluster.guests.plug(node.name, slot.root_port)
