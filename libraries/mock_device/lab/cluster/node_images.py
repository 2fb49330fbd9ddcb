"""Images in the container store of a node: which there are, and their removal. ``image_loading`` puts them there."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.node_runtime import NodeRuntime
from mock_device.lab.cluster.ssh import on_node


def references(node: NodeAccess, runtime: NodeRuntime) -> set[str]:
    """References of all images on ``node``. Raises StepError."""
    if runtime.ctr:
        return set(on_node(node, [*runtime.ctr, "images", "ls", "-q"], timeout=Timeout.NODE_IMAGES.seconds).split())
    if not runtime.crictl:
        raise StepError(f"{node.name}: expected crictl beside {runtime.kind}, found none; install cri-tools there")
    answer = json.loads(on_node(node, [*runtime.crictl, "images", "-o", "json"], timeout=Timeout.NODE_IMAGES.seconds))
    return {tag for image in answer["images"] for tag in image["repoTags"] or ()}


def remove(node: NodeAccess, runtime: NodeRuntime, images: Sequence[str]) -> None:
    """Remove ``images`` from ``node``; missing ones are no error. Raises StepError."""
    found = sorted(references(node, runtime).intersection(images)) if images else []
    if found:
        command = [*runtime.ctr, "images", "rm"] if runtime.ctr else [*runtime.crictl, "rmi"]
        on_node(node, [*command, *found], timeout=Timeout.NODE_IMAGES.seconds)
