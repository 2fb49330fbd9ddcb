"""Device nodes and attributes of single devices on their nodes, and what the kernel says about them."""

from __future__ import annotations

import re

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.checks.nodes.sysfs import CLASS_FOLDER

_NUMBERS = re.compile(r"(\d+):(\d+)")
_REFUSED = "Operation not permitted"


def attribute(session: Session, node: str, device: str, name: str) -> str:
    """Value of an attribute of class mock-accel; the error's text if it cannot be read."""
    return session.on_node(node, f"cat {CLASS_FOLDER}/{device}/{name} 2>&1 || true").strip()


def attribute_complaints(session: Session, node: str, device: str, name: str, expected: str) -> list[str]:
    """Whether the attribute has another value than ``expected``."""
    found = attribute(session, node, device, name)
    return [] if found == expected else [f"{node} {device}: expected {name} {expected}, found {found or 'nothing'}"]


def numbers(session: Session, node: str, device: str) -> tuple[int, int]:
    """Major and minor number of the device's node. Raises CheckError."""
    found = attribute(session, node, device, "dev")
    if not (match := _NUMBERS.fullmatch(found)):
        raise CheckError(f"{node} {device}: expected major:minor in attribute dev, found {found!r}")
    return int(match[1]), int(match[2])


def open_probe(major: int, minor: int, folder: str) -> str:
    """Shell command that makes a node of a device in ``folder`` and opens it; it prints what happens."""
    return (
        f"rm -f {folder}/node; mknod {folder}/node c {major} {minor} && echo made && (: <{folder}/node) && echo opened"
    )


def open_complaints(output: str) -> list[str]:
    """Whether the container could open the node that it made, or failed for another reason than its cgroup (EPERM)."""
    words = output.split()
    if "made" in words and "opened" not in words and _REFUSED in output:
        return []
    return [f"expected {_REFUSED!r} when the container opens the node that it made, found {output.strip()[-200:]!r}"]


def mark_kernel_log(session: Session, node: str, mark: str) -> None:
    """Write the line ``mark`` to the node's kernel log."""
    session.on_node(node, f"echo {mark} >/dev/kmsg")


def kernel_log_complaints(session: Session, node: str, mark: str, text: str) -> list[str]:
    """Whether no line of the node's kernel log after ``mark`` contains ``text``."""
    _, _, after = session.on_node(node, "dmesg").partition(mark)
    lines = after.splitlines()[1:]
    if any(text in line for line in lines):
        return []
    last = " | ".join(lines[-3:]) or "no line"
    return [f"{node}: expected {text!r} in the kernel log after {mark}, found {last}"]
