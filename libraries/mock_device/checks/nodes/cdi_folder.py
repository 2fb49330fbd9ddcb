"""Makes a node's CDI folder unwritable for the driver, or invisible to containerd."""

from __future__ import annotations

from mock_device.checks.nodes import runtime
from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import Session


def protect(session: Session, node: str) -> None:
    """Make the node's CDI folder immutable, so that not even root can create or remove files in it."""
    session.on_node(node, f"chattr +i {FOLDER}")


def unprotect(session: Session, node: str) -> None:
    """Undo ``protect``; no-op if the folder is not protected."""
    session.on_node(node, f"chattr -i {FOLDER}")


def cover(session: Session, node: str) -> None:
    """Hide the node's CDI folder from containerd by mounting an empty, read-only file system over it.

    Changing permissions would have no effect on root. The node agent has its own
    mount of the hidden folder and continues to write there.
    """
    session.on_node(node, f"mount -t tmpfs -o ro,mode=000 tmpfs {FOLDER}")


def uncover(session: Session, node: str) -> None:
    """Undo ``cover``, if necessary, and restart containerd.

    containerd 2.4 watched the file system that was mounted over the folder, and
    without a restart would not read the folder again.
    """
    command = f"""
        mountpoint -q {FOLDER} || exit 0
        while mountpoint -q {FOLDER}; do umount {FOLDER} || exit 1; done
        {runtime.RESTART}
    """
    session.on_node(node, command, runtime.RESTART_TIMEOUT_SECONDS)
