"""Errors of the lab."""

from __future__ import annotations

from pathlib import Path


class StepError(Exception):
    """A step failed: the message says which, why, and where its log is."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        self.log = log
        super().__init__(f"{message}\n  log: {log}" if log else message)


class DiskFullError(StepError):
    """A step failed because a disk is full."""
