"""One device with its socket and its client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from mock_accel_server.connection import Connection
from mock_accel_server.device import Device
from mock_accel_server.listener import Listener
from mock_accel_server.notices import Notices
from mock_accel_server.timers import Timers

_MAX_CLOSING = 4
"""A device with this many running close jobs accepts no client, because they are probably blocked."""


class Port:
    """State of one device's socket. It belongs to the loop's thread, except the number of close jobs."""

    def __init__(
        self, device: Device, listener: Listener, timers: Timers, patience: float, late: Callable[[Port], None]
    ):
        """``late`` is called when a client has waited ``patience`` seconds for the end of the last one."""
        self.device = device
        self.listener = listener
        self.notices = Notices(device.identity.name, timers)
        self.client: Connection | None = None
        self.thread: threading.Thread | None = None
        """Serves ``client``."""
        self.next: socket.socket | None = None
        """A client that waits for the end of one that has disconnected."""
        self.patience = timers.timer(patience, lambda: late(self))
        self.dead = False
        """It has no socket, by ``Server.die``."""
        self.listening = False
        """Whether the selector waits for clients."""
        self.out_of_fds = False
        """A client was refused because no file descriptor was free; no client is accepted until the next attempt."""
        self._closing = 0
        self._lock = threading.Lock()

    @property
    def blocked(self) -> bool:
        """Whether too many close jobs are running."""
        return self._closing >= _MAX_CLOSING

    def count_closing(self, change: int) -> bool:
        """Count a close job that starts (1) or ends (-1); whether ``blocked`` has changed. Any thread may call this."""
        with self._lock:
            before = self.blocked
            self._closing += change
            return self.blocked != before
