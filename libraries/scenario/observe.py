"""Reads all nodes of a session at once."""

from __future__ import annotations

from scenario import cdi, sysfs
from scenario.cdi import CdiFile
from scenario.session import Session
from scenario.sysfs import NodeDevices

_TIMEOUT_SECONDS = 60.0


def read_devices(session: Session) -> list[NodeDevices]:
    """PCI bus and class mock-accel of every node. Raises CheckError when a node does not answer."""
    outputs = session.on_nodes(sysfs.PROBE, _TIMEOUT_SECONDS)
    return [sysfs.parse(node, output) for node, output in outputs.items()]


def read_module_states(session: Session) -> dict[str, str]:
    """State of the kernel module on every node, MODULE_LIVES when all is well."""
    return {node: output.strip() for node, output in session.on_nodes(sysfs.MODULE_PROBE, _TIMEOUT_SECONDS).items()}


def read_cdi_files(session: Session) -> list[CdiFile]:
    """The driver's CDI files of every node. Raises CheckError when a node does not answer."""
    outputs = session.on_nodes(cdi.PROBE, _TIMEOUT_SECONDS)
    return [file for node, output in outputs.items() for file in cdi.parse(node, output)]
