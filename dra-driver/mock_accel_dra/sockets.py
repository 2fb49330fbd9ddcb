"""Sockets of agents that overlap on one node during an update."""

from __future__ import annotations

import socket
from pathlib import Path

from mock_accel_dra import klog

_CONNECT_SECONDS = 1.0


def siblings(own: Path, pattern: str) -> list[Path]:
    """Sockets in the folder of ``own`` whose names match ``pattern``, without ``own``."""
    return sorted(path for path in own.parent.glob(pattern) if path != own)


def answers(path: Path) -> bool:
    """Whether a process listens on the unix socket ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def remove_stale(own: Path, pattern: str) -> None:
    """Remove sockets of killed agents, which the kubelet would try to call again and again."""
    for path in siblings(own, pattern):
        if not answers(path):
            klog.info(klog.STATE, "Removed the socket of a driver that has ended", socket=path)
            path.unlink(missing_ok=True)


def replaced(own: Path, pattern: str) -> bool:
    """Whether an agent that started later serves on a socket beside ``own``."""
    try:
        started = own.stat().st_mtime_ns
        later = [path for path in siblings(own, pattern) if path.stat().st_mtime_ns > started]
    except FileNotFoundError:
        return False
    return any(answers(path) for path in later)
