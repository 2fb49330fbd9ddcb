"""Robot Framework library: the guests, seen from outside by QEMU's monitor."""

from __future__ import annotations

from robot.api import logger
from robot.api.deco import keyword, library
from scenario import CheckError, qemu, session


@library(scope="GLOBAL", auto_keywords=False)
class QemuLibrary:
    """Asks QEMU about the guests (QMP)."""

    @keyword
    def guests_should_be_running(self) -> None:
        """Check that QEMU runs every guest of the topology, none paused or stopped."""
        current = session.current()
        states = {name: current.cluster.qmp(name, "query-status")["status"] for name in current.node_names}
        if wrong := [
            f"{name}: expected running, found {state}" for name, state in states.items() if state != "running"
        ]:
            raise CheckError(f"{'; '.join(wrong)}; look at the console in {current.cluster.log_dir}")

    @keyword
    def guests_should_have_all_devices_plugged(self) -> None:
        """Check that each guest has every function of the topology at its PCI address, VFs included, and no other."""
        current = session.current()
        complaints = []
        for node in current.topology.nodes:
            found = qemu.accelerators(current.cluster.qmp(node.name, "query-pci"))
            logger.info(f"{node.name}: {', '.join(f'{name} {bdf}' for name, bdf in sorted(found.items()))}")
            complaints += qemu.plug_complaints(node, found)
        if complaints:
            raise CheckError("\n".join(complaints))
