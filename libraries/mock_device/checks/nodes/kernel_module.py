"""The kernel module and its firmware files on nodes, read and changed without its loader."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints

_FOLDER = "/sys/module/mock_accel"
# The kernel numbers the folders of sysfs, and uses no number twice until they run out.
_LOAD_ID = f"stat --format=%i {_FOLDER} 2>/dev/null || true"
_RMMOD = "rmmod mock_accel"


def load_id(session: Session, node: str) -> str:
    """Identity of the present load of the module on ``node``. Raises CheckError if it is not loaded."""
    found = session.on_node(node, _LOAD_ID).strip()
    if not found:
        raise CheckError(f"{node}: expected mock_accel to be loaded, found no {_FOLDER}")
    return found


def loaded_complaints(found: Mapping[str, str], nodes: Sequence[str], loaded: bool) -> list[str]:
    """Nodes where the module is not as expected, by the outputs ``found`` of all nodes."""
    return [
        f"{node}: expected mock_accel {'' if loaded else 'not '}to be loaded"
        for node in nodes
        if bool(found[node].strip()) != loaded
    ]


def wait_loaded(session: Session, nodes: Sequence[str], timeout: timedelta, *, loaded: bool = True) -> None:
    """Wait until the module is loaded on ``nodes``, or not ``loaded``. Raises CheckError."""
    until_no_complaints(
        lambda: loaded_complaints(session.on_nodes(_LOAD_ID), nodes, loaded), timeout, "the kernels of the nodes"
    )


def wait_loaded_again(session: Session, node: str, before: str, timeout: timedelta) -> None:
    """Wait until another load than ``before`` (``load_id``) of the module is on ``node``. Raises CheckError."""

    def complaints() -> list[str]:
        found = session.on_node(node, _LOAD_ID).strip()
        return [] if found not in ("", before) else ["it is not loaded" if not found else "it is still the same load"]

    until_no_complaints(complaints, timeout, f"{node}: expected mock_accel to be loaded again")


def rmmod(session: Session, node: str) -> None:
    """Unload the module on ``node`` without its loader. Raises CheckError with the kernel's reason."""
    session.on_node(node, _RMMOD)


def file_complaints(path: str, found: str | None, expected: str | None) -> list[str]:
    """Difference between a file's text, as ``read_file`` returns it, and what is ``expected``; None is no file."""
    if found == expected:
        return []
    if expected is None:
        return [f"{path}: expected no such file, found one"]
    return [f"{path}: expected {expected!r}, found {'no such file' if found is None else repr(found)}"]


def read_file(session: Session, node: str, path: str) -> str | None:
    """Text of a file on ``node``, without the end of its last line; None if there is no such file."""
    quoted = shlex.quote(path)
    found = session.on_node(node, f"if [ -e {quoted} ]; then printf =; cat {quoted}; fi")
    return found[1:].rstrip("\n") if found else None
