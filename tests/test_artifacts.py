"""The cache: built once, whole or not at all."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from lab import artifacts, progress
from lab.artifacts import StepError, locked


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def build_file(folder: Path) -> None:
    (folder / "file").write_text(str(time.monotonic_ns()))


def test_built_once_for_the_same_inputs() -> None:
    first = artifacts.cached("thing", {"a": "1"}, build_file, what="a thing")
    content = (first / "file").read_text()
    assert artifacts.cached("thing", {"a": "1"}, build_file, what="a thing") == first
    assert (first / "file").read_text() == content
    assert artifacts.cached("thing", {"a": "2"}, build_file, what="a thing") != first


def test_key_follows_content_names_and_modes_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_text("x")
    keys = [artifacts.key_of({"source": folder})]
    (folder / "a").write_text("y")
    keys.append(artifacts.key_of({"source": folder}))
    (folder / "a").rename(folder / "b")
    keys.append(artifacts.key_of({"source": folder}))
    (folder / "b").chmod(0o755)
    keys.append(artifacts.key_of({"source": folder}))
    assert len(set(keys)) == 4
    (folder / "__pycache__").mkdir()
    assert artifacts.key_of({"source": folder}) == keys[-1]


def test_failed_build_leaves_nothing_that_is_later_believed() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise StepError("no space left")

    with pytest.raises(StepError, match="no space left"):
        artifacts.cached("thing", {}, fail, what="a thing")
    assert [path.name for path in (artifacts.cache_root() / "thing").iterdir() if path.is_dir()] == []
    assert artifacts.cached("thing", {}, build_file, what="a thing").is_dir()


def _build_in_process() -> None:
    artifacts.cached("thing", {}, _slow, what="a thing")


def _slow(folder: Path) -> None:
    with (artifacts.cache_root() / "builds").open("a") as builds:
        builds.write(f"{os.getpid()}\n")
    build_file(folder)


def test_two_processes_build_once() -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build_in_process) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((artifacts.cache_root() / "builds").read_text().splitlines()) == 1


def test_run_says_what_failed_and_where_the_log_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(StepError) as caught:
        artifacts.run(["sh", "-c", "echo broken >&2; exit 3"], log=log, timeout=10)
    assert "ended with 3: broken" in str(caught.value)
    assert str(log) in str(caught.value)
    assert "broken" in log.read_text()


def test_run_kills_the_whole_group_after_its_time(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(StepError, match="did not end within 1 s"):
        artifacts.run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout=1)
    deadline = time.monotonic() + 5
    state = Path(f"/proc/{int(pid_file.read_text())}/stat")
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_unknown_command_is_a_step_error() -> None:
    with pytest.raises(StepError, match="cannot run no-such-command"):
        artifacts.run(["no-such-command"], timeout=1)


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    artifacts.write_file(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_tree_is_removed_whatever_its_folders_allow(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed" / "deeper").mkdir(parents=True)
    (tree / "link").symlink_to(tmp_path)
    for folder in (tree / "closed" / "deeper", tree / "closed", tree):
        folder.chmod(0)
    artifacts.remove_tree(tree)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_commands_are_found_where_an_ordinary_user_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    assert artifacts.run(["sh", "-c", "echo $PATH"], timeout=10) == b"/bin:/usr/sbin:/sbin\n"


def test_lock_file_with_anything_in_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert said == ["waiting for process \ufffd\ufffd, which works on: some work"]
