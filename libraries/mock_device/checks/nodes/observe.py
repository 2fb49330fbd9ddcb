"""Reads the state of a session's nodes in parallel."""

from __future__ import annotations

from mock_device.checks.nodes import cdi, sysfs
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import NodeDevices


def _on(session: Session, node: str | None, command: str) -> dict[str, str]:
    """Output of ``command`` on ``node``, or on every node if it is None."""
    if node is None:
        return session.on_nodes(command)
    return {node: session.on_node(node, command)}


def read_devices(session: Session, node: str | None = None) -> list[NodeDevices]:
    """PCI bus and class mock-accel of ``node``, or of every node. Raises CheckError if a node does not answer."""
    outputs = _on(session, node, sysfs.PROBE)
    return [sysfs.parse(node, output) for node, output in outputs.items()]


def look_at_devices(session: Session) -> tuple[list[NodeDevices], dict[str, str]]:
    """PCI bus and class mock-accel of every node that shows them, and for each other node the reason why not."""
    outputs, reasons = session.answers_of_nodes(sysfs.PROBE)
    found = []
    for node, output in outputs.items():
        try:
            found.append(sysfs.parse(node, output))
        except ValueError as error:
            reasons[node] = f"{error}; a device that does not answer shows no values"
    return found, reasons


def read_module_states(session: Session) -> dict[str, str]:
    """State of the kernel module on every node; MODULE_LIVE if it is loaded and ready."""
    return {node: sysfs.parse_module(output) for node, output in session.on_nodes(sysfs.MODULE_PROBE).items()}


def read_cdi_files(session: Session, node: str | None = None) -> list[CdiFile]:
    """The driver's CDI files of ``node``, or of every node. Raises CheckError if a node does not answer."""
    outputs = _on(session, node, cdi.probe())
    return [file for node, output in outputs.items() for file in cdi.parse(node, output)]
