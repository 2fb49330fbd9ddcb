"""History of nightly runs: one JSON object is appended per run, for comparisons over weeks."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from mock_device.acceptance.rounds import Round, Row, Verdict
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.guest.accelerator import accelerator

_UNKNOWN = "unknown"


def entry(rounds: Sequence[Round], rows: Sequence[Row]) -> dict[str, Any]:
    """One line of the history; counts and ``seconds`` are sums over all rounds, whichever machines they ran on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "topologies": list(dict.fromkeys(item.topology for item in rounds)),
        "rounds": len(rounds),
        "crashed": sum(bool(item.crash) for item in rounds),
        "passed": sum(item.count("PASS") for item in rounds),
        "failed": sum(item.count("FAIL") for item in rounds),
        "skipped": sum(item.count("SKIP") for item in rounds),
        "seconds": round(sum(item.seconds for item in rounds)),
        **{
            verdict.value: [f"{row.topology}: {row.test}" for row in rows if row.verdict is verdict]
            for verdict in (Verdict.FLAKY, Verdict.FAILING)
        },
    }


def commit() -> str:
    """Commit of this checkout, with ``-dirty`` if files are modified; ``unknown`` without git."""
    argv = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        output = subprocess.run(
            argv, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=Timeout.GIT.seconds
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    return output.strip() or _UNKNOWN


def machine() -> dict[str, Any]:
    """Properties that affect a run's duration. No host name, because a history may be published."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "accelerator": accelerator(),
    }


def append(path: Path, line: dict[str, Any]) -> None:
    """Append a line to the history in a single write, and sync it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
        os.fsync(file.fileno())
