"""The client's side of a cluster's supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import Connection
from mock_device.lab.base.json_lines import NotRunningError as NoClusterError
from mock_device.lab.base.spec import control_address

__all__ = ["Control", "NoClusterError"]


class Control(Connection):
    """Connection to a supervisor, which releases what the connection holds when it closes or this process dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(control_address(name), f"cluster {name!r}", f"start it with: lab up --name {name}")

    def follow(self) -> Iterator[dict[str, Any]]:
        """Yield the events of the cluster's start.

        The last event has ``state`` (``running`` or ``failed``), ``reason``, and ``golden``: whether the golden cluster
        from which the cluster is restored may be the cause.
        """
        for message in self.messages("follow"):
            if "result" in message:
                yield message["result"]
                return
            yield message["event"]
        raise StepError(f"cluster {self.name!r}: its supervisor ended during the start")
