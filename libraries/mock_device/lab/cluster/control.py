"""A client's side of a cluster's supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.json_lines import Connection
from mock_device.lab.base.json_lines import NotRunningError as NoClusterError
from mock_device.lab.base.spec import control_address

__all__ = ["Control", "NoClusterError"]


class Control(Connection):
    """Connection to a supervisor. What it holds is given back when it closes, also by the death of this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(control_address(name), f"cluster {name!r}", f"start it with: lab up --name {name}")

    def follow(self) -> Iterator[dict[str, Any]]:
        """Events of the cluster's start.

        The last one has ``state`` (``running``, ``failed``), ``reason``, and ``golden``: whether the golden cluster
        that it was to be restored from may be to blame.
        """
        for message in self.messages("follow"):
            if "result" in message:
                yield message["result"]
                return
            yield message["event"]
        raise StepError(f"cluster {self.name!r}: its supervisor ended while it started")
