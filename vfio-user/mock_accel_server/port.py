"""One device with its socket and its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mock_accel_server.connection import Connection
from mock_accel_server.device import Device
from mock_accel_server.listener import Listener
from mock_accel_server.notices import Notices
from mock_accel_server.timers import Timers


@dataclass(frozen=True)
class TimeLimits:
    """Time limits for clients, in seconds."""

    handshake: float = 10.0
    """From the connection to the end of the first message."""
    message: float = 10.0
    """From the first byte of a message to its last, and for the client to read a reply."""


class Port:
    """State of the loop for one device; ``late`` is called with the reason when a time limit is exceeded."""

    def __init__(
        self,
        device: Device,
        listener: Listener,
        timers: Timers,
        limits: TimeLimits,
        late: Callable[[Port, str], None],
    ) -> None:
        self.device = device
        self.listener = listener
        self.notices = Notices(device.identity.name, timers)
        self.client: Connection | None = None
        self.watched = 0
        """Events of the client's socket for which the selector waits."""
        self.listening = False
        """Whether the selector waits for clients."""
        self.dead = False
        """A fault on demand: it has no socket."""
        self.closing = 0
        """Number of running close jobs for this device."""
        self.out_of_fds = False
        """A client was refused because no file descriptor was free; no client is accepted until the next attempt."""
        self.handshake = timers.timer(limits.handshake, lambda: late(self, f"no version within {limits.handshake:g} s"))
        self.stalled = timers.timer(
            limits.message, lambda: late(self, f"a message was not finished within {limits.message:g} s")
        )
