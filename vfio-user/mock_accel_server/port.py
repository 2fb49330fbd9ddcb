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
class Patience:
    """Seconds that the server waits for a client."""

    handshake: float = 10.0
    """From the connection to the whole of the first message."""
    message: float = 10.0
    """From the first byte of a message to its last, and for a reply to be taken."""


class Port:
    """State of the loop for one device; ``late`` is called with a reason when the client's time is over."""

    def __init__(
        self,
        device: Device,
        listener: Listener,
        timers: Timers,
        patience: Patience,
        late: Callable[[Port, str], None],
    ) -> None:
        self.device = device
        self.listener = listener
        self.notices = Notices(device.identity.name, timers)
        self.client: Connection | None = None
        self.watched = 0
        """Events of the client's socket that the selector waits for."""
        self.listening = False
        """The selector waits for clients."""
        self.closing = 0
        """How many closings of what clients of this device sent are under way."""
        self.out_of_fds = False
        """No client could be taken for want of a file descriptor; none is until the next try."""
        self.handshake = timers.timer(
            patience.handshake, lambda: late(self, f"no version within {patience.handshake:g} s")
        )
        self.stalled = timers.timer(
            patience.message, lambda: late(self, f"a message was not finished within {patience.message:g} s")
        )
