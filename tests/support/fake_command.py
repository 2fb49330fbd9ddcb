"""Fake commands on the PATH, which record their calls."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_HEAD = """#!{python}
import json, os, sys
with open({calls!r}, "a") as calls:
    json.dump({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}, calls)
    calls.write("\\n")
"""


@dataclass(frozen=True)
class FakeCommand:
    """A fake command; ``calls`` has its calls so far."""

    _calls: Path

    @property
    def calls(self) -> list[dict[str, Any]]:
        """``argv`` without the command itself, ``cwd`` and ``env`` of each call."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [json.loads(line) for line in lines]


def fake_command(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, body: Sequence[str] = ()) -> FakeCommand:
    """Put a command ``name`` first on the PATH, which records its call and then runs ``body`` (lines of Python)."""
    calls = folder / f"{name}.calls"
    script = folder / "bin" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(_HEAD.format(python=sys.executable, calls=str(calls)) + "\n".join(body) + "\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return FakeCommand(calls)
