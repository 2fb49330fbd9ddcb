"""The artifact store: artifacts are built once, completely or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from mock_device.lab.base import paths
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import store


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def build_file(folder: Path) -> None:
    (folder / "file").write_text(str(time.monotonic_ns()))


def test_artifact_is_built_once_for_the_same_inputs() -> None:
    first = store.cached("thing", {"a": "1"}, build_file, what="a thing")
    content = (first / "file").read_text()
    assert store.cached("thing", {"a": "1"}, build_file, what="a thing") == first
    assert (first / "file").read_text() == content
    assert store.cached("thing", {"a": "2"}, build_file, what="a thing") != first


def test_key_follows_content_names_and_modes_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_text("x")
    keys = [store.key_of({"source": folder})]
    (folder / "a").write_text("y")
    keys.append(store.key_of({"source": folder}))
    (folder / "a").rename(folder / "b")
    keys.append(store.key_of({"source": folder}))
    (folder / "b").chmod(0o755)
    keys.append(store.key_of({"source": folder}))
    assert len(set(keys)) == 4
    (folder / "__pycache__").mkdir()
    assert store.key_of({"source": folder}) == keys[-1]


def test_key_is_the_same_wherever_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(cache: str, *path: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        text = str(paths.cache_root().joinpath(*path))
        return store.key_of({"alone": text, "listed": [text, "x"]})

    assert key("a", "kind", "0123") == key("b", "kind", "0123") != key("b", "kind", "4567")
    inside = str(paths.cache_root() / "kind").encode()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert store.key_of({"bytes": inside}) != store.key_of({"bytes": str(paths.cache_root() / "kind").encode()})


def test_artifact_of_another_machine_is_added_once() -> None:
    assert store.add("thing", "0123", build_file, what="a thing")
    content = (paths.cache_root() / "thing" / "0123" / "file").read_text()
    assert not store.add("thing", "0123", build_file, what="a thing")
    assert (paths.cache_root() / "thing" / "0123" / "file").read_text() == content


def test_failed_build_leaves_no_artifact() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise StepError("no space left")

    with pytest.raises(StepError, match="no space left"):
        store.cached("thing", {}, fail, what="a thing")
    assert [path.name for path in (paths.cache_root() / "thing").iterdir() if path.is_dir()] == []
    assert store.cached("thing", {}, build_file, what="a thing").is_dir()


def _build_in_process() -> None:
    store.cached("thing", {}, _slow, what="a thing")


def _slow(folder: Path) -> None:
    with (paths.cache_root() / "builds").open("a") as builds:
        builds.write(f"{os.getpid()}\n")
    build_file(folder)


def test_parallel_processes_build_once() -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build_in_process) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((paths.cache_root() / "builds").read_text().splitlines()) == 1
