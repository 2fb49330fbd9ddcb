"""The CDI folder of a node: made read-only for the driver, or hidden from containerd."""

from __future__ import annotations

from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import Session
from mock_device.lab.base.timeouts import Timeout


def protect(session: Session, node: str) -> None:
    """Forbid everyone, even root, to create or remove files in the node's CDI folder."""
    session.on_node(node, f"chattr +i {FOLDER}")


def unprotect(session: Session, node: str) -> None:
    """Make the node's CDI folder writable, if it is protected."""
    session.on_node(node, f"chattr -i {FOLDER}")


def cover(session: Session, node: str) -> None:
    """Hide the node's CDI files from containerd: mount an empty, read-only file system on their folder.

    Permissions do not stop root. The node agent still writes to the hidden folder,
    through its own mount.
    """
    session.on_node(node, f"mount -t tmpfs -o ro,mode=000 tmpfs {FOLDER}")


def uncover(session: Session, node: str) -> None:
    """Unmount that file system, if it is mounted, and restart containerd.

    Without the restart, containerd 2.4 watches the unmounted file system and does
    not read the folder again.
    """
    command = f"""
        mountpoint -q {FOLDER} || exit 0
        while mountpoint -q {FOLDER}; do umount {FOLDER} || exit 1; done
        {session.runtime(node).restart}
    """
    session.on_node(node, command, Timeout.RUNTIME_RESTART.seconds)
