"""Artifacts travel from one cache to another: `lab cache export` and `lab cache import`."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_device.commands import cache, cache_transfer, cli
from mock_device.lab.base import disk
from mock_device.lab.base.errors import DiskFullError, StepError
from mock_device.lab.base.paths import cache_root
from mock_device.lab.build import cache_file, store
from mock_device.lab.build.store import cached

TIMEOUT_SECONDS = 30


class Machine:
    """A machine with its own cache, whose sources need three artifacts. Two keys depend on other artifacts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.kinds: tuple[str, ...] = ("program", "image", "module")

    def use(self) -> None:
        self._monkeypatch.setenv("XDG_CACHE_HOME", str(self._folder))
        self._monkeypatch.setattr(store, "_requested", set())
        self._monkeypatch.setattr(cache, "current_builds", lambda: cache._requested_by([self.build]))

    def build(self) -> None:
        """Build all: ``image`` contains ``program``; the key of ``module`` is known once ``image`` is there."""
        program = self._artifact("program", "")
        image = self._artifact("image", str(program))
        if "module" in self.kinds:
            self._artifact("module", (image / "file").read_text())

    def _artifact(self, kind: str, text: str) -> Path:
        def build(folder: Path) -> None:
            (folder / "file").write_text(f"{kind} 1.0\n" * 1000)

        try:
            return cached(kind, {"kind": kind, "text": text}, build, what=kind)
        except store.NotCachedError:
            if kind != "program":
                raise
            # As with real builders, the key of what contains it is known before it is there.
            return cache_root() / kind / store.key_of({"kind": kind, "text": text})

    def artifacts(self) -> list[str]:
        """Kinds of the artifacts in the cache; fails if anything else than locks and logs is there."""
        root = self._folder / "mock-device"
        folders = [path for path in root.glob("*/*") if path.is_dir()]
        assert not [path for path in folders if ".tmp" in path.name]
        return sorted(path.parent.name for path in folders)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "here", monkeypatch)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "there" / "deeper", monkeypatch)


@pytest.fixture
def file(tmp_path: Path, here: Machine) -> Path:
    """All artifacts of ``here``."""
    here.use()
    here.build()
    path = tmp_path / "cache.tar"
    done = cache_transfer.export_to(path)
    assert done.missing == []
    assert done.size == path.stat().st_size
    return path


def kinds(names: list[str]) -> list[str]:
    return [name.partition("/")[0] for name in names]


def test_import_into_an_empty_cache_elsewhere_leaves_nothing_to_build(
    file: Path, here: Machine, there: Machine
) -> None:
    there.use()
    done = cache_transfer.import_from(file)
    assert sorted(kinds(done.added)) == ["image", "module", "program"]
    assert (done.kept, done.skipped, done.missing) == ([], [], [])
    with store.only_looking():
        there.build()
    assert there.artifacts() == here.artifacts()
    (module,) = (cache_root() / "module").glob("*/file")
    assert module.read_text() == "module 1.0\n" * 1000


def test_cached_artifacts_are_kept_and_unknown_ones_skipped(file: Path, there: Machine) -> None:
    there.use()
    there.build()
    for kind in ("image", "module"):
        (artifact,) = [path for path in (cache_root() / kind).iterdir() if path.is_dir()]
        artifact.rename(cache_root() / f"{kind}-old")
    (program,) = (cache_root() / "program").glob("*/file")
    program.write_text("mine")
    there.kinds = ("program", "image")
    store._requested.clear()
    done = cache_transfer.import_from(file)
    assert (kinds(done.added), kinds(done.kept), kinds(done.skipped)) == (["image"], ["program"], ["module"])
    assert program.read_text() == "mine"


def test_missing_artifacts_are_reported(tmp_path: Path, here: Machine, there: Machine) -> None:
    here.use()
    here.kinds = ("program", "image")
    here.build()
    cache_transfer.export_to(tmp_path / "cache.tar")
    there.use()
    assert kinds(cache_transfer.import_from(tmp_path / "cache.tar").missing) == ["module"]
    done = cache_transfer.export_to(tmp_path / "again.tar")
    assert kinds(done.missing) == ["module"]
    assert [item.kind for item in done.artifacts] == ["image", "program"]


def test_golden_clusters_and_old_artifacts_are_not_exported(
    tmp_path: Path, here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.use()
    here.build()
    golden = cached("golden-nodes", {}, lambda folder: None, what="golden")
    cached("program", {"old": "1"}, lambda folder: None, what="old")
    current = cache.current_builds
    monkeypatch.setattr(cache, "current_builds", lambda: {*current(), golden} - {cache_root() / "program" / "x"})
    store._requested.clear()
    done = cache_transfer.export_to(tmp_path / "cache.tar")
    assert sorted(item.kind for item in done.artifacts) == ["image", "module", "program"]


def test_nothing_to_export_is_an_error(tmp_path: Path, here: Machine) -> None:
    here.use()
    with pytest.raises(StepError, match="nothing to export: .* build them: lab build"):
        cache_transfer.export_to(tmp_path / "cache.tar")
    assert not (tmp_path / "cache.tar").exists()


def test_damaged_file_adds_nothing(file: Path, there: Machine) -> None:
    content = bytearray(file.read_bytes())
    content[len(content.rstrip(b"\0")) - 3] ^= 1
    file.write_bytes(content)
    there.use()
    with pytest.raises(StepError, match="is damaged"):
        cache_transfer.import_from(file)
    assert there.artifacts() == []


def test_interrupted_import_leaves_whole_artifacts_only(
    file: Path, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.use()
    unpack = cache_file.CacheFile.unpack

    def interrupted(self: cache_file.CacheFile, artifact: cache_file.Packed, folder: Path) -> None:
        unpack(self, artifact, folder)
        if artifact.kind == "program":
            raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(cache_file.CacheFile, "unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache_transfer.import_from(file)
    assert there.artifacts() == ["image"]
    done = cache_transfer.import_from(file)
    assert (sorted(kinds(done.added)), kinds(done.kept)) == (["module", "program"], ["image"])


def test_no_artifact_is_started_without_space_for_it(
    file: Path, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.use()
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1000)
    with pytest.raises(DiskFullError, match="import: it needs 0 MiB in .*, found 0 MiB free; .*: lab cache"):
        cache_transfer.import_from(file)
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1 << 40)
    status = os.statvfs(file)
    few = os.statvfs_result((*status[:7], 1, *status[8:10]))
    monkeypatch.setattr(os, "statvfs", lambda _: few)
    with pytest.raises(DiskFullError, match="import: it needs 2 inodes in .*, found 1 free"):
        cache_transfer.import_from(file)
    assert there.artifacts() == []


def in_process(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_import_waits_for_a_build_and_keeps_its_artifact(file: Path, there: Machine, tmp_path: Path) -> None:
    there.use()
    release = tmp_path / "release"
    started = tmp_path / "started"

    def build(folder: Path) -> None:
        started.touch()
        wait_for(release)
        (folder / "file").write_text("built here")

    building = in_process(lambda: cached("program", {"kind": "program", "text": ""}, build, what="program"))
    wait_for(started)
    importing = in_process(lambda: cache_transfer.import_from(file))
    wait_for(cache_root() / "image")
    release.touch()
    for process in (building, importing):
        process.join(TIMEOUT_SECONDS)
        assert process.exitcode == 0
    (program,) = (cache_root() / "program").glob("*/file")
    assert program.read_text() == "built here"
    assert there.artifacts() == ["image", "module", "program"]


def test_artifact_is_not_removed_while_it_is_exported(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here.use()
    stale = cached("program", {"old": "1"}, lambda folder: None, what="old")
    monkeypatch.setattr(cache, "_current", set)
    with store.reading(stale, "old") as there:
        assert there
        assert cache.prune() == []
        with store.reading(stale, "old") as also:
            assert also, "readers share the lock"
    assert [entry.path for entry in cache.prune()] == [stale]
    with store.reading(stale, "old") as there:
        assert not there


def test_commands(
    file: Path, here: Machine, there: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.tar"

    def output(*arguments: str) -> str:
        capsys.readouterr()
        assert cli.main(["cache", *arguments]) == 0
        return capsys.readouterr().out

    heading, *lines, note = (line.split("\t") for line in output("export", str(again)).splitlines())
    assert heading == ["kind", "key", "size", "packed"]
    assert [line[0] for line in lines] == ["image", "module", "program"]
    assert note[0] == "written"
    exported = json.loads(output("export", str(again), "--json"))
    assert exported["file"] == str(again)
    assert {item["kind"] for item in exported["artifacts"]} == {"image", "module", "program"}
    there.use()
    lines = [line.split("\t") for line in output("import", str(again)).splitlines()]
    assert lines[0] == ["kind", "key", "result"]
    assert {(line[0], line[2]) for line in lines[1:-1]} == {(kind, "added") for kind in ("image", "module", "program")}
    assert lines[-1] == ["total", "3 added, 0 kept, 0 skipped, 0 missing"]
    imported = json.loads(output("--json", "import", str(again)))
    assert (len(imported["kept"]), imported["added"], imported["missing"]) == (3, [], [])
    assert cli.main(["cache", "import", str(tmp_path / "missing.tar")]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert cli.main(["cache", "export"]) == 2
