"""Lock files shared by processes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from mock_device.lab.base import progress
from mock_device.lab.base.locks import locked, try_lock


def test_lock_file_with_invalid_content_can_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\xff\xfe")
    said: list[str] = []
    with path.open("a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def say(message: str) -> None:
            said.append(message)
            fcntl.flock(other, fcntl.LOCK_UN)

        monkeypatch.setattr(progress, "say", say)
        with locked(path, "some work"):
            assert path.read_text() == f"{os.getpid()}\n"
    assert said[0] == "» waiting for process \ufffd\ufffd, which is working on: some work"


def test_shared_locks_exclude_writers_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, "reading", shared=True), path.open("a+") as other:
        assert not try_lock(other)
        assert try_lock(other, shared=True)
    with locked(path, "writing"), path.open("a+") as other:
        assert not try_lock(other, shared=True)
