"""The file with which artifacts of one machine's cache serve another.

Format: an uncompressed tar. Its first entry is ``manifest.json`` (``Manifest``), padded with blanks; then one entry for
each artifact, in the manifest's order, named ``KIND/KEY.tar.zst``: a stream of ``packed_tree``. So a reader knows all
sizes and checksums before it reads an artifact, and skips those that it does not need. There are no other entries and
no extended headers: each entry's place follows from the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from mock_device.lab.base import progress, typed_json
from mock_device.lab.base.disk import explained_when_full
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import packed_tree, store
from mock_device.lab.build.packed_tree import Content

FORMAT = 1
"""Changes when older readers could not read the file any more."""
_MANIFEST = "manifest.json"
_LARGEST_MANIFEST_BYTES = 1 << 20
_LARGEST = 1 << 50
"""Bytes and entries of an artifact are less than this."""
_CHUNK_BYTES = 1 << 20
_KIND = re.compile(r"[a-z0-9][a-z0-9-]*")
_KEY = re.compile(r"[0-9a-f]{16}")
_SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Packed:
    """One artifact of the file."""

    kind: str
    key: str
    content: Content
    packed: int
    """Bytes of its entry."""
    sha256: str
    """Checksum of its entry."""

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key}"

    @property
    def needed_bytes(self) -> int:
        """Bytes that it takes on a disk, at most."""
        return self.content.stored + self.content.entries * packed_tree.ENTRY_BYTES


@dataclass(frozen=True)
class Manifest:
    """What the file holds, and for which machines."""

    format: int
    project: str
    """Version of the project that wrote the file. Only keys decide whether an artifact fits."""
    architecture: str
    artifacts: list[Packed]


def write(path: Path, artifacts: Sequence[Path]) -> Manifest:
    """Write those ``artifacts`` (folders of the cache) that are complete to the file ``path``, replacing it at the end.

    Shows progress. Raises StepError.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with explained_when_full(path.parent, f"write {path}"), partial.open("wb+") as file:
            most = [Packed(item.parent.name, item.name, _MOST, _LARGEST, "0" * 64) for item in artifacts]
            room = len(_as_json(_manifest(most)))
            file.seek(tarfile.BLOCKSIZE + _padded(room))
            written = [packed for item in artifacts if (packed := _write_artifact(file, item))]
            file.write(bytes(2 * tarfile.BLOCKSIZE))
            manifest = _manifest(written)
            file.seek(0)
            file.write(_header(_MANIFEST, room) + _as_json(manifest).ljust(room))
            file.flush()
            os.fsync(file.fileno())
            partial.rename(path)
    except OSError as error:
        raise StepError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return manifest


_MOST = Content(_LARGEST, _LARGEST, _LARGEST)


def _manifest(artifacts: list[Packed]) -> Manifest:
    return Manifest(FORMAT, version("mock-device"), platform.machine(), artifacts)


def _as_json(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), indent=1).encode() + b"\n"


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _entry(kind: str, key: str) -> str:
    return f"{kind}/{key}.tar.zst"


def _write_artifact(file: IO[bytes], artifact: Path) -> Packed | None:
    """Append an artifact, unless it is gone."""
    kind, key = artifact.parent.name, artifact.name
    with store.reading(artifact, f"export of {kind}") as there:
        if not there:
            return None
        start = file.tell()
        with progress.step(f"pack {kind}"):
            file.write(bytes(tarfile.BLOCKSIZE))
            hashing = _Hashing(file)
            try:
                content = packed_tree.pack(artifact, hashing)  # type: ignore[arg-type] # it only writes
            except FileNotFoundError as error:
                raise StepError(f"{artifact} changed while it was read: {error}") from error
        end = file.tell()
        size = end - start - tarfile.BLOCKSIZE
        file.write(bytes(_padded(size) - size))
        file.seek(start)
        file.write(_header(_entry(kind, key), size))
        file.seek(0, os.SEEK_END)
    return Packed(kind, key, content, size, hashing.digest.hexdigest())


class _Hashing:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)


class CacheFile:
    """An opened cache file, whose manifest and size were checked."""

    def __init__(self, path: Path, file: IO[bytes], manifest: Manifest, start: int) -> None:
        self.path = path
        self.manifest = manifest
        self._file = file
        self._places: dict[Packed, int] = {}
        for artifact in manifest.artifacts:
            self._places[artifact] = start + tarfile.BLOCKSIZE
            start += tarfile.BLOCKSIZE + _padded(artifact.packed)
        found, expected = os.fstat(file.fileno()).st_size, start + 2 * tarfile.BLOCKSIZE
        if found != expected:
            raise StepError(f"{path}: expected {expected} bytes, found {found}; copy or export it again")

    def check(self) -> None:
        """Compare the checksums of all artifacts. Raises StepError with the first one that differs."""
        for artifact in self.manifest.artifacts:
            self._seek(artifact)
            left = artifact.packed
            digest = hashlib.sha256()
            while left:
                chunk = self._file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    break
                digest.update(chunk)
                left -= len(chunk)
            self._compare(artifact, digest)

    def unpack(self, artifact: Packed, folder: Path) -> None:
        """Unpack one artifact into the empty ``folder``. Raises StepError if it is damaged or not safe to unpack."""
        self._seek(artifact)
        section = _Section(self._file, artifact.packed)
        try:
            packed_tree.unpack(section, folder, artifact.content)  # type: ignore[arg-type] # it only reads
        except StepError as error:
            raise StepError(f"{self.path}: {artifact.name}: {error}") from error
        section.read_rest()
        self._compare(artifact, section.digest)

    def _seek(self, artifact: Packed) -> None:
        place = self._places[artifact]
        self._file.seek(place - tarfile.BLOCKSIZE)
        expected = _entry(artifact.kind, artifact.key)
        if _read_header(self._file, self.path) != (expected, artifact.packed):
            raise StepError(f"{self.path}: expected {expected} at byte {place}, found something else; export it again")

    def _compare(self, artifact: Packed, digest: hashlib._Hash) -> None:
        if (found := digest.hexdigest()) != artifact.sha256:
            raise StepError(
                f"{self.path}: {artifact.name} is damaged: expected SHA-256 {artifact.sha256}, found {found}; "
                "copy or export it again"
            )


class _Section:
    """Reads a part of a file and hashes what was read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        self.digest.update(chunk)
        return chunk

    def read_rest(self) -> None:
        while self.read(_CHUNK_BYTES):
            pass


@contextmanager
def opened(path: Path) -> Iterator[CacheFile]:
    """Open a cache file. Raises StepError unless it is one, complete, of this format and for this architecture."""
    if path.exists() and not path.is_file():
        raise StepError(f"{path}: expected a file, not a folder, a pipe or a device: it is read twice")
    try:
        file = path.open("rb")
    except OSError as error:
        raise StepError(f"cannot read {path}: {error}") from error
    with file:
        name, size = _read_header(file, path)
        if name != _MANIFEST:
            raise StepError(f"{path}: expected a file of `lab cache export`, found no {_MANIFEST} at its start")
        if size > _LARGEST_MANIFEST_BYTES:
            raise StepError(f"{path}: expected a manifest of at most {_LARGEST_MANIFEST_BYTES} bytes, found {size}")
        try:
            manifest = parse(file.read(size))
        except ValueError as error:
            raise StepError(f"{path}: {_MANIFEST}: {error}") from error
        yield CacheFile(path, file, manifest, tarfile.BLOCKSIZE + _padded(size))


def _read_header(file: IO[bytes], path: Path) -> tuple[str, int]:
    """Name and size of the regular file whose header comes next; an empty name if there is none."""
    try:
        info = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "strict")
    except (tarfile.TarError, ValueError):
        return "", 0
    return (info.name, info.size) if info.type == tarfile.REGTYPE and info.size >= 0 else ("", 0)


def parse(text: bytes) -> Manifest:
    """Read a manifest. Raises ValueError with what was expected and found."""
    try:
        loose = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {error}") from error
    found = loose.get("format") if isinstance(loose, dict) else None
    if found != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {found}; export and import by the same version of the lab")
    manifest = typed_json.parse_typed(Manifest, text)
    if manifest.architecture != platform.machine():
        raise ValueError(
            f"expected artifacts for {platform.machine()}, found some for {manifest.architecture!r}; "
            "export them on a machine like this one"
        )
    for artifact in manifest.artifacts:
        _check(artifact)
    if len(names := {artifact.name for artifact in manifest.artifacts}) != len(manifest.artifacts):
        raise ValueError(f"expected each artifact once, found {len(manifest.artifacts)} entries for {len(names)}")
    return manifest


def _check(artifact: Packed) -> None:
    patterns = ((artifact.kind, _KIND, "a kind"), (artifact.key, _KEY, "a key"), (artifact.sha256, _SUM, "a checksum"))
    for text, pattern, what in patterns:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {what}, found {text[:100]!r}")
    if len(_entry(artifact.kind, artifact.key)) > tarfile.LENGTH_NAME:
        raise ValueError(f"expected a short kind, found {artifact.kind[:100]!r}")
    for number in (artifact.packed, *asdict(artifact.content).values()):
        if not 0 <= number <= _LARGEST:
            raise ValueError(f"{artifact.name}: expected a size, found {number}")
