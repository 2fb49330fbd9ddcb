"""Images in the container store of a node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runtimes import RUNTIME

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import node_images
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.node_runtime import Kind

NODE = NodeAccess("node1", "192.0.2.1", 22, "root", Path("/key"), Path("/hosts"))
CRIO = replace(RUNTIME, kind=Kind.CRIO, ctr=(), crictl=("crictl",))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands on the node, whose answer to crictl is a listing, and two names for any other command."""
    seen: list[list[str]] = []

    def on_node(_: Any, command: Sequence[str], **__: object) -> str:
        seen.append(list(command))
        listing = {"images": [{"repoTags": ["a:1", "b:1"]}, {"repoTags": None}]}
        return json.dumps(listing) if command[0] == "crictl" else "a:1\nc:1\n"

    monkeypatch.setattr(node_images, "on_node", on_node)
    return seen


def test_references_are_those_of_the_nodes_runtime(commands: list[list[str]]) -> None:
    assert node_images.references(NODE, RUNTIME) == {"a:1", "c:1"}
    assert node_images.references(NODE, CRIO) == {"a:1", "b:1"}
    assert commands[0] == [*RUNTIME.ctr, "images", "ls", "-q"]
    with pytest.raises(StepError, match="node1: expected crictl beside cri-o, found none; install cri-tools there"):
        node_images.references(NODE, replace(CRIO, crictl=()))


def test_images_are_removed_by_name(commands: list[list[str]]) -> None:
    node_images.remove(NODE, RUNTIME, [])
    assert commands == []
    node_images.remove(NODE, RUNTIME, ["a:1", "b:1"])
    node_images.remove(NODE, CRIO, ["a:1", "b:1", "gone:1"])
    assert commands[1::2] == [[*RUNTIME.ctr, "images", "rm", "a:1"], ["crictl", "rmi", "a:1", "b:1"]]
