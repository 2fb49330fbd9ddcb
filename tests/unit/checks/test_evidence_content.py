"""Evidence that lacks something is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.checks import evidence_content

ENTRY = 'Nov 27 10:00:00 node1 kubelet[312]: I1127 10:00:00.1 kubelet.go:1] "Starting"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Complete evidence of a cluster with node1."""
    files = {
        "events.tsv": "last seen\ttype\n10:00\tNormal\n",
        **{f"{name}.json": "[{}]" for name in ("pods", "nodes", "claims", "slices", "deviceclasses")},
        "node1/dmesg.txt": "[    0.0] Linux",
        "node1/sysfs.txt": "mock0",
        "node1/kubelet.txt": ENTRY,
        "driver/mock-device/mock-accel-node-agent-x.node-agent.txt": "I1127 scanned",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_complete_evidence(folder: Path) -> None:
    assert evidence_content.complaints(folder, ["node1"]) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("problems.txt", "events: no answer", "expected an answer of every source, found events: no answer"),
        ("events.tsv", "last seen\ttype\n", "expected events in events.tsv, found none"),
        ("claims.json", "[]", "expected objects in claims.json, found none"),
        ("slices.json", None, "expected objects in slices.json, found none"),
        ("node1/dmesg.txt", "\n", "expected content in node1/dmesg.txt, found none"),
        ("node1/kubelet.txt", None, "expected journals of services in node1, found none"),
        (
            "node1/kubelet.txt",
            "sh: 1: journalctl: not found\n",
            "expected entries of a journal in node1/kubelet.txt, found 'sh: 1: journalctl: not found'",
        ),
        (
            "driver/mock-device/mock-accel-node-agent-x.node-agent.txt",
            "no log: time-out",
            "expected the log of a node agent in driver/mock-device/mock-accel-node-agent-x.node-agent.txt, "
            "found no log: time-out",
        ),
    ],
)
def test_what_is_missing_is_named(folder: Path, name: str, content: str | None, complaint: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    assert evidence_content.complaints(folder, ["node1"]) == [complaint]


def test_each_node_needs_its_own(folder: Path) -> None:
    assert len(evidence_content.complaints(folder, ["node1", "node2"])) == 4
