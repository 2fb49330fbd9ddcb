"""The file with artifacts: written, read, damaged, and for other machines."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import cache_file, packed_tree, store
from mock_device.lab.build.cache_file import Manifest, Packed


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def artifact(kind: str, text: str) -> Path:
    def build(folder: Path) -> None:
        (folder / "file").write_text(text)

    return store.cached(kind, {"text": text}, build, what=kind)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file with three artifacts."""
    path = tmp_path / "file.tar"
    cache_file.write(path, [artifact("one", "1" * 1000), artifact("two", "2"), artifact("three", "3" * 10_000)])
    return path


def manifest_of(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        content = tar.extractfile("manifest.json")
        assert content
        found: dict[str, Any] = json.load(content)
    return found


def change_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write another manifest of the same length; its place and those of the artifacts stay."""
    with tarfile.open(path) as tar:
        size = tar.getmember("manifest.json").size
    manifest = manifest_of(path)
    change(manifest)
    text = json.dumps(manifest).encode()
    assert len(text) <= size
    with path.open("rb+") as file:
        file.seek(512)
        file.write(text.ljust(size))


def test_file_is_a_tar_with_the_manifest_first(written: Path) -> None:
    with tarfile.open(written) as tar:
        names = tar.getnames()
    manifest = manifest_of(written)
    assert names[0] == "manifest.json"
    assert names[1:] == [f"{item['kind']}/{item['key']}.tar.zst" for item in manifest["artifacts"]]
    assert [item["kind"] for item in manifest["artifacts"]] == ["one", "two", "three"]
    assert manifest["format"] == cache_file.FORMAT
    assert manifest["artifacts"][0]["content"] == {"size": 1000, "stored": 1000, "entries": 1}


def test_artifacts_are_checked_and_unpacked_in_any_order(written: Path, tmp_path: Path) -> None:
    with cache_file.opened(written) as file:
        file.check()
        for item in reversed(file.manifest.artifacts):
            folder = tmp_path / item.kind
            folder.mkdir()
            file.unpack(item, folder)
    assert (tmp_path / "one" / "file").read_text() == "1" * 1000
    assert (tmp_path / "three" / "file").read_text() == "3" * 10_000


def test_artifact_that_was_removed_meanwhile_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file.tar"
    gone = tmp_path / "cache" / "mock-device" / "gone" / ("0" * 16)
    manifest = cache_file.write(path, [gone, artifact("two", "2")])
    assert [item.kind for item in manifest.artifacts] == ["two"]
    with cache_file.opened(path) as file:
        assert file.manifest == manifest


def test_failed_export_leaves_the_old_file(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packed_tree, "pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_file.write(written, [artifact("one", "other")])
    assert written.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file.tar"]


def test_export_into_a_folder_that_is_missing_names_it(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file.tar"
    with pytest.raises(StepError, match=f"cannot write {path}: .*No such file"):
        cache_file.write(path, [artifact("one", "1")])


def test_artifact_that_changes_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changing(*_: object) -> None:
        raise FileNotFoundError("file")

    monkeypatch.setattr(packed_tree, "pack", changing)
    with pytest.raises(StepError, match="changed while it was read: file"):
        cache_file.write(tmp_path / "file.tar", [artifact("one", "1")])


def test_flipped_bit_is_found_before_anything_is_unpacked(written: Path) -> None:
    content = bytearray(written.read_bytes())
    # The last artifact's entry ends before the padding and two empty blocks.
    place = len(content.rstrip(b"\0")) - 3
    content[place] ^= 1
    written.write_bytes(content)
    with cache_file.opened(written) as file, pytest.raises(StepError, match=r"three/\w+ is damaged: expected SHA-256"):
        file.check()


@pytest.mark.parametrize("change", [lambda data: data[:-600], lambda data: data + b"x"])
def test_truncated_and_longer_files_are_refused(written: Path, change: Callable[[bytes], bytes]) -> None:
    written.write_bytes(change(written.read_bytes()))
    with pytest.raises(StepError, match=r"expected \d+ bytes, found \d+; copy or export it again"), opened(written):
        pass


opened = cache_file.opened


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\0" * 2048])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StepError, match="expected a file of `lab cache export`, found no manifest"), opened(path):
        pass


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="expected a file, not a folder"), opened(tmp_path):
        pass
    with pytest.raises(StepError, match="cannot read .*missing: .*No such file"), opened(tmp_path / "missing"):
        pass


def test_huge_manifest_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 1 << 40
    path = tmp_path / "file"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with (
        pytest.raises(StepError, match="expected a manifest of at most 1048576 bytes, found 1099511627776"),
        opened(path),
    ):
        pass


def set_item(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["artifacts"][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest.update(format=2),
            "expected format 1, found 2; export and import by the same version",
        ),
        (lambda manifest: manifest.clear(), "expected format 1, found None"),
        (
            lambda manifest: manifest.update(architecture="riscv64"),
            "expected artifacts for x86_64, found some for 'riscv64'; export them on a machine like this one",
        ),
        (lambda manifest: manifest.pop("project"), "expected .project, found no such key"),
        (lambda manifest: manifest["artifacts"].append(manifest["artifacts"][0]), "expected each artifact once"),
        (set_item(kind="../x"), "expected a kind, found '../x'"),
        (set_item(kind="x" * 90), "expected a short kind, found 'xxx"),
        (set_item(key="../../0123456789"), "expected a key, found '../../0123456789'"),
        (set_item(sha256="0"), "expected a checksum, found '0'"),
        (set_item(packed=-1), "expected a size, found -1"),
        (set_item(packed=10**30), "expected a size, found 10"),
        (set_item(content={"size": 1, "stored": 2, "entries": 1 << 60}), "expected a size, found 1152921504606846976"),
    ],
)
def test_manifest_is_checked(
    written: Path, change: Callable[[dict[str, Any]], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    change_manifest(written, lambda manifest: manifest.update(architecture="x86_64"))
    change_manifest(written, change)
    with pytest.raises(StepError) as refused, opened(written):
        pass
    assert f"{written}: " in str(refused.value)
    assert message in str(refused.value)


def test_manifest_that_is_no_json_is_refused() -> None:
    for text in (b"", b"{", b"[" * 100_000):
        with pytest.raises(ValueError, match="expected JSON"):
            cache_file.parse(text)
    with pytest.raises(ValueError, match="expected format 1, found None"):
        cache_file.parse(b"[]")


def test_entry_that_is_not_the_promised_one_is_refused(written: Path, tmp_path: Path) -> None:
    """Its header is another one than the manifest says."""
    content = written.read_bytes()
    first = manifest_of(written)["artifacts"][0]
    name = f"{first['kind']}/{first['key']}.tar.zst".encode()
    place = content.index(name)
    written.write_bytes(content[:place] + b"X" + content[place + 1 :])
    with opened(written) as file, pytest.raises(StepError, match=f"expected {name.decode()} at byte"):
        file.check()


def test_unpacking_compares_the_checksum_and_promises_again(written: Path, tmp_path: Path) -> None:
    with opened(written) as file:
        item = file.manifest.artifacts[0]
        wrong = dataclasses.replace(item, sha256="0" * 64)
        more = dataclasses.replace(item, content=dataclasses.replace(item.content, entries=2))
        for changed, message in (
            (wrong, "is damaged: expected SHA-256 0000"),
            (more, f"{item.name}: expected Content"),
        ):
            manifest = Manifest(1, "", "", [changed, *file.manifest.artifacts[1:]])
            again = cache_file.CacheFile(written, file._file, manifest, file._places[item] - 512)
            folder = tmp_path / message[:3]
            folder.mkdir()
            with pytest.raises(StepError, match=message):
                again.unpack(changed, folder)


def test_needed_space_counts_entries() -> None:
    item = Packed("kind", "0" * 16, packed_tree.Content(1 << 40, 1000, 10), 1, "0" * 64)
    assert item.needed_bytes == 1000 + 10 * 4096
