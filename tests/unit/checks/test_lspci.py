"""Output of lspci, compared with the topology."""

from __future__ import annotations

import pytest
from support.topologies import CLUSTER

from mock_device.checks.nodes import lspci
from mock_device.checks.nodes.lspci import ListedDevice

NODE = CLUSTER.nodes[0]
# Output of lspci 3.13 in a guest.
RECORDED = """\
0000:11:00.0 1200: 1de5:0001 (rev 01)
0000:11:00.1 1200: 1de5:0002 (rev 01)
0000:11:00.2 1200: 1de5:0002 (rev 01)
0000:12:00.0 1200: 1de5:0001 (rev 01)
0000:12:00.1 1200: 1de5:0001 (rev 01)
0000:21:00.0 1200: 1de5:0001 (rev 01)
0000:21:00.1 1200: 1de5:0002 (rev 01)
0000:21:00.2 1200: 1de5:0002 (rev 01)
0000:22:00.0 1200: 1de5:0001 (rev 01)
0000:22:00.1 1200: 1de5:0001 (rev 01)
"""
LISTED = lspci.parse(NODE.name, RECORDED)


def test_all_functions_are_listed() -> None:
    assert lspci.COMMAND == "lspci -D -n -d 1de5:"
    assert lspci.complaints(NODE, LISTED) == []


def test_vfs_are_listed_only_while_they_are_enabled() -> None:
    enabled = {bdf: listed for bdf, listed in LISTED.items() if listed.device_id == 1 or bdf == "0000:11:00.1"}
    assert lspci.complaints(NODE, enabled) == []


@pytest.mark.parametrize(
    ("bdf", "listed", "message"),
    [
        (
            "0000:12:00.0",
            None,
            "0000:12:00.0 (mock1): expected 1de5:0001 of class 1200 by the topology, lspci lists none",
        ),
        (
            "0000:11:00.1",
            ListedDevice(0x1200, 1),
            "0000:11:00.1 (mock0_vf0): expected 1de5:0002 of class 1200 by the topology, "
            "lspci lists 1de5:0001 of class 1200",
        ),
        (
            "0000:23:00.0",
            ListedDevice(0xFF00, 1),
            "0000:23:00.0: expected no device by the topology, lspci lists 1de5:0001 of class ff00",
        ),
    ],
)
def test_unexpected_function_is_reported(bdf: str, listed: ListedDevice | None, message: str) -> None:
    found = {key: value for key, value in {**LISTED, bdf: listed}.items() if value}
    assert lspci.complaints(NODE, found) == [f"mock-cluster-node1 {message}"]


def test_invalid_line_is_rejected() -> None:
    with pytest.raises(ValueError, match="node1: expected a line of lspci, found 'lspci: not found'"):
        lspci.parse("node1", "lspci: not found\n")
