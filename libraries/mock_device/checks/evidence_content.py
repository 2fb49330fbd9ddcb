"""Whether collected evidence has what somebody needs who was not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mock_device.checks.evidence import PROBLEMS
from mock_device.driver import current
from mock_device.lab.cluster import node_runtime

_OBJECTS = ("pods.json", "nodes.json", "claims.json", "slices.json", "deviceclasses.json")
_OF_NODES = ("dmesg.txt", "sysfs.txt")
_ENTRY = re.compile(r"^\S+ .*\[\d+\]: ", re.MULTILINE)
"""An entry of a journal, as journalctl(1) prints it: time, host, unit[PID], message."""


def complaints(folder: Path, nodes: Sequence[str]) -> list[str]:
    """What the evidence in ``folder`` lacks of a cluster with ``nodes`` on which a pod with a device runs."""
    return list(_complaints(folder, nodes))


def _complaints(folder: Path, nodes: Sequence[str]) -> Iterator[str]:
    for line in _text(folder / PROBLEMS).splitlines():
        yield f"expected an answer of every source, found {line}"
    if len(_text(folder / "events.tsv").splitlines()) < 2:
        yield "expected events in events.tsv, found none"
    for name in _OBJECTS:
        if _text(folder / name) in ("", "[]"):
            yield f"expected objects in {name}, found none"
    for node in nodes:
        for name in _OF_NODES:
            if not _text(folder / node / name).strip():
                yield f"expected content in {node}/{name}, found none"
        journals = {f"{unit}.txt": _text(folder / node / f"{unit}.txt") for unit in node_runtime.UNITS}
        there = {name: text for name, text in journals.items() if text}
        if not there:
            yield f"expected journals of services in {node}, found none"
        for name, text in there.items():
            if not _ENTRY.search(text):
                yield f"expected entries of a journal in {node}/{name}, found {text.strip()[:100]!r}"
    driver = current.driver()
    logs = list((folder / "driver" / driver.namespace).glob(f"{driver.node_agent.workload}-*.txt"))
    if len(logs) < len(nodes):
        yield f"expected logs of {len(nodes)} node agents, found {len(logs)}"
    for path in logs:
        if (text := _text(path)).startswith("no log") or not text:
            yield f"expected the log of a node agent in {path.relative_to(folder)}, found {text[:100] or 'nothing'}"


def _text(path: Path) -> str:
    """Content of ``path``; empty if there is none."""
    return path.read_text(errors="replace") if path.is_file() else ""
