"""Thin container images, without the layers that nodes already have.

Converts a docker-archive tar (``manifest.json``, a configuration and layers) to
an OCI image layout (image-spec, image-layout.md) without those layers: without
hardware virtualisation, a node takes a minute to import layers that it has.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mock_device.lab.base.errors import StepError

_CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def layers_of(archive: Path) -> list[str]:
    """Digests (``sha256:…``) of the uncompressed layers of a docker-archive tar, lowest first. Raises StepError."""
    with _opened(archive) as tar:
        _, config = _descriptions(archive, tar)
    return [str(layer) for layer in json.loads(config)["rootfs"]["diff_ids"]]


def write_thin(archive: Path, target: Path, present: Collection[str]) -> int:
    """Write the image of ``archive`` to ``target`` (OCI layout, tar) without the layers ``present``.

    Returns the size of the layers that it contains, in bytes. Raises StepError
    if ``archive`` is not a docker-archive tar with one image.
    """
    written = 0
    with _opened(archive) as tar, tarfile.open(target, "w") as thin:
        entry, config = _descriptions(archive, tar)
        descriptors = []
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        for name, diff_id in zip(entry["Layers"], diff_ids, strict=True):
            descriptor = _layer(tar, name)
            descriptors.append(descriptor)
            if diff_id in present and descriptor["digest"] == diff_id:
                continue
            content = tar.extractfile(name)
            assert content is not None
            _add(thin, f"blobs/{descriptor['digest'].replace(':', '/')}", content, descriptor["size"])
            written += descriptor["size"]
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _add_blob(thin, config, _CONFIG),
                "layers": descriptors,
            }
        ).encode()
        described = _add_blob(thin, manifest, _MANIFEST)
        entries = [{**described, "annotations": {"io.containerd.image.name": tag}} for tag in entry["RepoTags"]]
        _add_bytes(thin, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        _add_bytes(thin, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return written


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open the tar for reading. Raises StepError, also if reading it shows that it is truncated or lacks a file."""
    with ExitStack() as stack:
        try:
            tar = stack.enter_context(tarfile.open(archive, "r:"))
        except (OSError, tarfile.TarError) as error:
            raise StepError(f"{archive}: expected a docker-archive tar: {error}") from error
        try:
            yield tar
        except (tarfile.TarError, KeyError) as error:
            raise StepError(f"{archive}: expected a whole docker-archive tar: {error}") from error


def _descriptions(archive: Path, tar: tarfile.TarFile) -> tuple[dict[str, Any], bytes]:
    """The image's entry in ``manifest.json``, and its configuration."""
    try:
        (entry,) = json.loads(_read(tar, "manifest.json"))
        config = _read(tar, entry["Config"])
        if len(entry["Layers"]) != len(json.loads(config)["rootfs"]["diff_ids"]) or not entry["RepoTags"]:
            raise ValueError("layers or names are missing")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StepError(f"{archive}: expected a docker-archive tar with one named image: {error}") from error
    return entry, config


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file.read()


def _layer(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = tar.extractfile(name)
    if file is None:
        raise StepError(f"{tar.name!r}: layer {name} is not a file")
    digest, size, start = hashlib.sha256(), 0, b""
    while chunk := file.read(_CHUNK_BYTES):
        start = start or chunk[: len(_GZIP)]
        digest.update(chunk)
        size += len(chunk)
    media_type = f"{_LAYER}.gzip" if start == _GZIP else _LAYER
    return {"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _add_blob(tar: tarfile.TarFile, content: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    _add_bytes(tar, f"blobs/sha256/{digest}", content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add(tar, name, io.BytesIO(content), len(content))


def _add(tar: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)
