"""Reads container images: docker archives, OCI archives and OCI layouts.

A docker archive is a tar with ``manifest.json`` (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem
Changeset"). An OCI layout is a folder with ``index.json`` and ``blobs`` (image-spec, image-layout.md), an OCI archive
is a tar of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from mock_device.lab.base.errors import StepError

CHUNK_BYTES = 1 << 20
GZIP = b"\x1f\x8b"
NAME = "io.containerd.image.name"
"""Annotation of a manifest in an index: the image's full name (containerd, docker buildx)."""
REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation of the image-spec: the full name (podman, skopeo), or only a tag (docker buildx)."""
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_PLATFORM = ("linux", "amd64")
_FORMS = "a docker archive, an OCI archive or an OCI layout"

Descriptor = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A layer as it is stored, maybe compressed."""

    descriptor: Descriptor
    file: str
    """Its file in the source."""


@dataclass(frozen=True)
class Image:
    """One image of a source."""

    names: tuple[str, ...]
    """Full names."""
    manifest: bytes
    media_type: str
    config: bytes
    config_digest: str
    layers: tuple[Layer, ...]


class Source(Protocol):
    """Files of an archive or a layout."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file. Raises KeyError if there is none."""


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def open(self, name: str) -> IO[bytes]:
        # Some tools write names with a leading ./
        try:
            file = self._tar.extractfile(name)
        except KeyError:
            file = self._tar.extractfile(f"./{name}")
        if file is None:
            raise KeyError(f"{name} is not a file")
        return file


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._folder / name).open("rb")
        except OSError as error:
            raise KeyError(str(error)) from error


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open an archive or a layout. Raises StepError, also if reading it shows that it is truncated or lacks a file."""
    with ExitStack() as stack:
        source: Source
        if path.is_dir():
            source = _Folder(path)
        else:
            try:
                source = _Tar(stack.enter_context(tarfile.open(path, "r:")))
            except (OSError, tarfile.TarError) as error:
                raise StepError(f"{path}: expected {_FORMS}: {error}") from error
        try:
            yield source
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise StepError(f"{path}: expected a whole image: {error}") from error
        except OSError as error:
            # Without a number: tarfile copied fewer bytes than the description promised.
            if error.errno is not None:
                raise
            raise StepError(f"{path}: expected a whole image: {error}") from error


def unpacked(path: Path, folder: Path) -> Path:
    """``path``, or its decompressed copy in ``folder`` if it is compressed by gzip: an archive is read out of order."""
    if path.is_dir():
        return path
    with path.open("rb") as file:
        if file.read(len(GZIP)) != GZIP:
            return path
    copy = folder / "unpacked.tar"
    try:
        with gzip.open(path) as packed, copy.open("wb") as target:
            shutil.copyfileobj(packed, target, CHUNK_BYTES)
    except (OSError, EOFError) as error:
        raise StepError(f"{path}: expected {_FORMS}: {error}") from error
    return copy


def images_in(path: Path, source: Source, name: str = "") -> list[Image]:
    """The images of an opened ``source``; ``name`` replaces the names of a single one. Raises StepError."""
    try:
        if "manifest.json" in _files(source):
            found = _of_docker(source)
        elif "index.json" in _files(source):
            found = _of_layout(path, source)
        else:
            raise StepError(f"{path}: expected {_FORMS}, found neither manifest.json nor index.json")
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise StepError(f"{path}: expected {_FORMS}: {error}") from error
    if not found:
        raise StepError(f"{path}: expected an image, found none")
    if name:
        if len(found) > 1:
            raise StepError(f"{path}: expected one image for the name {name}, found {len(found)}")
        return [Image((full_name(name),), *_rest(found[0]))]
    if nameless := [image for image in found if not image.names]:
        raise StepError(f"{path}: {len(nameless)} of {len(found)} images have no name; give it: --as NAME:TAG")
    return found


def _rest(image: Image) -> tuple[bytes, str, bytes, str, tuple[Layer, ...]]:
    return image.manifest, image.media_type, image.config, image.config_digest, image.layers


def _files(source: Source) -> set[str]:
    found = set()
    for name in ("manifest.json", "index.json"):
        try:
            source.open(name).close()
        except KeyError:
            continue
        found.add(name)
    return found


def _read(source: Source, name: str) -> bytes:
    with source.open(name) as file:
        return file.read()


def _of_docker(source: Source) -> list[Image]:
    found = []
    for entry in json.loads(_read(source, "manifest.json")):
        config = _read(source, entry["Config"])
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        if len(entry["Layers"]) != len(diff_ids):
            raise ValueError(f"{len(entry['Layers'])} layers, but {len(diff_ids)} in the configuration")
        layers = tuple(_docker_layer(source, name) for name in entry["Layers"])
        digest = digest_of(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": _DOCKER_CONFIG, "digest": digest, "size": len(config)},
            "layers": [layer.descriptor for layer in layers],
        }
        names = tuple(map(full_name, entry["RepoTags"] or ()))
        found.append(Image(names, json.dumps(manifest).encode(), DOCKER_MANIFEST, config, digest, layers))
    return found


def _docker_layer(source: Source, name: str) -> Layer:
    digest, size, start = hashlib.sha256(), 0, b""
    with source.open(name) as file:
        while chunk := file.read(CHUNK_BYTES):
            start = start or chunk[: len(GZIP)]
            digest.update(chunk)
            size += len(chunk)
    media_type = f"{_DOCKER_LAYER}.gzip" if start == GZIP else _DOCKER_LAYER
    return Layer({"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}, name)


def _of_layout(path: Path, source: Source) -> list[Image]:
    found = []
    for entry in json.loads(_read(source, "index.json"))["manifests"]:
        descriptor = _for_platform(path, source, entry)
        content = _read(source, _blob(descriptor["digest"]))
        manifest = json.loads(content)
        config = manifest["config"]["digest"]
        layers = tuple(_layout_layer(layer) for layer in manifest["layers"])
        names = _names(entry.get("annotations") or {})
        media_type = manifest.get("mediaType") or descriptor["mediaType"]
        found.append(Image(names, content, media_type, _read(source, _blob(config)), config, layers))
    return found


def _layout_layer(descriptor: Descriptor) -> Layer:
    if not isinstance(descriptor["size"], int):
        raise ValueError(f"expected the size of a layer, found {descriptor['size']!r}")
    return Layer(descriptor, _blob(descriptor["digest"]))


def _for_platform(path: Path, source: Source, descriptor: Descriptor) -> Descriptor:
    """The descriptor of the manifest that the nodes need, if ``descriptor`` is that of an index."""
    if descriptor["mediaType"] not in _INDEXES:
        return descriptor
    entries = json.loads(_read(source, _blob(descriptor["digest"])))["manifests"]
    for entry in entries:
        if _platform(entry) == _PLATFORM:
            return _for_platform(path, source, entry)
    found = ", ".join("/".join(_platform(entry)) for entry in entries)
    raise StepError(f"{path}: expected an image for {'/'.join(_PLATFORM)}, found {found or 'none'}")


def _platform(entry: Descriptor) -> tuple[str, str]:
    platform = entry.get("platform") or {}
    return str(platform.get("os", "unknown")), str(platform.get("architecture", "unknown"))


def _blob(digest: str) -> str:
    algorithm, separator, value = digest.partition(":")
    if not separator or not algorithm.isalnum() or not value.isalnum():
        raise ValueError(f"expected a digest, found {digest!r}")
    return f"blobs/{algorithm}/{value}"


def _names(annotations: dict[str, str]) -> tuple[str, ...]:
    if name := annotations.get(NAME):
        return (full_name(name),)
    reference = annotations.get(REF_NAME, "")
    return (full_name(reference),) if "/" in reference or ":" in reference else ()


def digest_of(content: bytes) -> str:
    """Digest of a blob, ``sha256:…``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def full_name(name: str) -> str:
    """The name with registry and tag, as the kubelet looks for it.

    Rules of github.com/distribution/reference, ParseDockerRef: ``nginx`` is ``docker.io/library/nginx:latest``.
    """
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"
