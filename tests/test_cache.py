"""What of the cache is listed, and what is removed."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from lab import artifacts, cache
from lab.artifacts import NotCachedError, cached, only_looking


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(artifacts, "_asked_for", set())
    return tmp_path / "mock-device"


def artifact(name: str) -> Path:
    def build(folder: Path) -> None:
        (folder / "file").write_text("x" * 10_000)

    return cached("thing", {"name": name}, build, what=name)


def test_looking_builds_nothing_but_knows_what_is_wanted(root: Path) -> None:
    there = artifact("there")
    with only_looking() as wanted:
        assert artifact("there") == there
        with pytest.raises(NotCachedError, match="missing: not in the cache"):
            artifact("missing")
    assert there in wanted
    assert len(wanted) == 2
    assert [path.name for path in (root / "thing").iterdir() if path.is_dir()] == [there.name]


def test_prune_removes_what_is_not_wanted_and_not_in_use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, busy, old = artifact("wanted"), artifact("busy"), artifact("old")
    failed = old.with_name(f"{old.name}.failed-1")
    failed.mkdir()
    (root / "clusters" / "default").mkdir(parents=True)
    monkeypatch.setattr(cache, "_current", lambda: {wanted})
    with busy.with_name(f"{busy.name}.lock").open("a+") as builder:
        fcntl.flock(builder, fcntl.LOCK_EX)
        removed = cache.prune()
    assert {entry.path for entry in removed} == {old, failed}
    assert wanted.exists()
    assert busy.exists()
    assert not old.exists()
    assert (root / "clusters" / "default").exists()
    (entry,) = [entry for entry in cache.entries() if entry.path == wanted]
    assert (entry.kind, entry.current) == ("thing", True)
    assert entry.size >= 10_000


def test_disk_usage_does_not_count_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert cache.disk_usage(tmp_path) < 1 << 20
