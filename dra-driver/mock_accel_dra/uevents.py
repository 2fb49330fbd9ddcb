"""Kernel events (uevents) about devices. They say where to look; the state is read from sysfs.

Wire format: lib/kobject_uevent.c of the kernel. A datagram is ``ACTION@DEVPATH``
and ``KEY=VALUE`` strings, each terminated by NUL. The kernel sends group 1 to every
network namespace of the initial user namespace, so a pod without hostNetwork
receives it.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from mock_accel_dra import klog

SUBSYSTEM = "mock-accel"
_NETLINK_KOBJECT_UEVENT = 15
"""linux/netlink.h; Python's socket module does not define it."""
_KERNEL_GROUP = 1
_BUFFER_BYTES = 64 * 1024
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Uevent:
    """One event of the kernel."""

    action: str
    path: str
    subsystem: str

    @property
    def changed_device(self) -> str | None:
        """Name of the device whose attributes changed; None if devices came or went."""
        return PurePosixPath(self.path).name if self.action == "change" else None


def parse(datagram: bytes) -> Uevent | None:
    """The event in ``datagram``; None if the kernel did not send it."""
    head, _, rest = datagram.partition(b"\0")
    action, at, path = head.decode(errors="replace").partition("@")
    if not at:  # udev's own messages start with "libudev"
        return None
    values = dict(item.split("=", 1) for item in rest.decode(errors="replace").split("\0") if "=" in item)
    return Uevent(action, path, values.get("SUBSYSTEM", ""))


def open_socket() -> socket.socket:
    """A socket that receives the kernel's events. Raises OSError."""
    receiver = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT)
    try:
        receiver.bind((0, _KERNEL_GROUP))
    except OSError:
        receiver.close()
        raise
    receiver.settimeout(_POLL_SECONDS)
    return receiver


def listen(receiver: socket.socket, wake: Callable[[str | None], None], stop: threading.Event) -> None:
    """Call ``wake`` for every event about mock accelerators until ``stop`` is set; closes the socket.

    ``wake`` gets the name of the device that changed, or None: any may have changed, come or gone.
    """
    with receiver:
        while not stop.is_set():
            try:
                datagram, sender = receiver.recvfrom(_BUFFER_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    klog.error("Kernel events ended; devices are still found by rescan", err=error)
                    return
                wake(None)  # events were lost
                continue
            event = parse(datagram) if sender[0] == 0 else None  # port 0 is the kernel
            if event is not None and event.subsystem == SUBSYSTEM:
                klog.info(klog.FLOW, "Kernel event", action=event.action, path=event.path)
                wake(event.changed_device)
