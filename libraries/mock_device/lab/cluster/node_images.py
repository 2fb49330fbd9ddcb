"""Images in the container store of one node that the lab has not made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.cluster.ssh import on_node

_LIST_SECONDS = 120.0
_IMPORT_SECONDS = 600.0


def references(node: NodeAccess, runtime: NodeRuntime) -> set[str]:
    """References of all images on ``node``. Raises StepError."""
    if runtime.ctr:
        return set(on_node(node, [*runtime.ctr, "images", "ls", "-q"], timeout=_LIST_SECONDS).split())
    if not runtime.crictl:
        raise StepError(f"{node.name}: expected crictl beside {runtime.kind}, found none; install cri-tools there")
    answer = json.loads(on_node(node, [*runtime.crictl, "images", "-o", "json"], timeout=_LIST_SECONDS))
    return {tag for image in answer["images"] for tag in image["repoTags"] or ()}


def import_archive(node: NodeAccess, runtime: NodeRuntime, archive: Path, log: Path) -> None:
    """Put a docker-archive on ``node``. Raises StepError, also for CRI-O, whose store the lab does not write."""
    if not runtime.ctr:
        raise StepError(f"{node.name}: the lab puts no images into the store of {runtime.kind}; load {archive} there")
    # Without sync, a power cut soon afterwards would leave the files that containerd unpacked empty.
    command = ["sh", "-c", f"{shlex.join(runtime.ctr)} images import - && sync"]
    on_node(node, command, timeout=_IMPORT_SECONDS, log=log, stdin=archive)


def remove(node: NodeAccess, runtime: NodeRuntime, images: Sequence[str]) -> None:
    """Remove ``images`` from ``node``; missing ones are no error. Raises StepError."""
    if images:
        on_node(node, [*runtime.ctr, "images", "rm", *images], timeout=_LIST_SECONDS)
