"""Where a cluster's control plane runs: on this machine, or on a node.

Everything that depends on it is behind ``Place``; ``ClusterProcesses`` does not know which one it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mock_device.lab.base.spec import ClusterSpec
from mock_device.lab.controlplane.pki import Pki
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.topology import Node


class Place(Protocol):
    """The control plane of one cluster, by where it runs. The methods raise StepError."""

    @property
    def address(self) -> str:
        """Address of the API server in the cluster's network."""

    def create_pki(self) -> Pki:
        """Create the cluster's certificates and keys in its folder."""

    def pki(self) -> Pki:
        """The certificates and keys in the cluster's folder."""

    def node_files(self, node: Node, number: int, keys: SshKeys) -> Sequence[GuestFile]:
        """The files of node ``number`` (from 1) that are written at boot."""

    async def start(self) -> None:
        """Start the control plane of a cluster whose guests boot; return when the nodes can use it."""

    async def complete(self) -> None:
        """Wait for what nodes do not need, after ``start``."""

    async def restore(self, golden: Path) -> None:
        """Start what runs on this machine from its part of ``golden``, while the guests' memory is read."""

    async def resumed(self) -> None:
        """Return when the API server answers, after the guests were resumed and their clocks set."""

    async def upgrade(self, spec: ClusterSpec) -> None:
        """End the control plane, and start that of ``spec`` on the same data; return when it is ready."""

    async def end(self) -> None:
        """End what runs on this machine, before the guests are saved."""

    def save(self, folder: Path) -> None:
        """Copy what runs on this machine, and the certificates, to the golden cluster ``folder``."""
