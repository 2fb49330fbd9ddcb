"""Checks whether this machine has enough memory for a pool."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from mock_device.lab.base.errors import StepError
from mock_device.topology import Topology

# Measured: 0.9 GiB per control plane; QEMU needs more memory than its guest has.
_CONTROL_PLANE_BYTES = 900 << 20
_GUEST_EXTRA_BYTES = 150 << 20


def needed(topology: Topology) -> int:
    """Maximum memory of a cluster, in bytes."""
    return _CONTROL_PLANE_BYTES + sum(node.memory + _GUEST_EXTRA_BYTES for node in topology.nodes)


def check_memory(topologies: Sequence[Topology], clusters: int) -> None:
    """Raise StepError if ``clusters`` of the largest of ``topologies`` do not fit into the available memory."""
    largest = max(topologies, key=needed)
    total, available = clusters * needed(largest), psutil.virtual_memory().available
    if total > available:
        raise StepError(
            f"{clusters} clusters ({largest.name} is the largest) need {_gib(total)}, {_gib(available)} are available; "
            "run fewer at once (make acceptance CLUSTERS=1), or stop other clusters (lab clusters)"
        )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
