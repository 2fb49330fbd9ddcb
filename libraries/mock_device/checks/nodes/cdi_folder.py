"""The CDI folder of a node: made unwritable for the driver, or invisible to containerd."""

from __future__ import annotations

from mock_device.checks.nodes import runtime
from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import Session


def protect(session: Session, node: str) -> None:
    """Let nobody, root included, make or remove files in the node's CDI folder."""
    session.on_node(node, f"chattr +i {FOLDER}")


def unprotect(session: Session, node: str) -> None:
    """Take that back; nothing happens when it is not protected."""
    session.on_node(node, f"chattr -i {FOLDER}")


def cover(session: Session, node: str) -> None:
    """Hide the node's CDI folder from containerd below an empty, read-only file system.

    Permissions would not do, root may do all. The node agent has its own mount
    of the folder below and goes on writing there.
    """
    session.on_node(node, f"mount -t tmpfs -o ro,mode=000 tmpfs {FOLDER}")


def uncover(session: Session, node: str) -> None:
    """Take that away, if it is there, and restart containerd.

    containerd 2.4 watched the file system that has gone, and does not read the
    folder below again by itself.
    """
    command = f"""
        mountpoint -q {FOLDER} || exit 0
        while mountpoint -q {FOLDER}; do umount {FOLDER} || exit 1; done
        {runtime.RESTART}
    """
    session.on_node(node, command, runtime.RESTART_TIMEOUT_SECONDS)
