"""Thin container images, without the layers that nodes already have.

Writes an OCI archive (image-spec, image-layout.md) without those layers: without hardware virtualisation, a node takes
a minute to import layers that it has.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_device.lab.build.image_source import NAME, REF_NAME, Image, digest_of, images_in, opened, unpacked


@dataclass(frozen=True)
class Thin:
    """What a thin archive has."""

    names: tuple[str, ...]
    size: int
    """Bytes of the layers that it contains."""


def write_thin(path: Path, target: Path, present: Collection[str], name: str = "") -> Thin:
    """Write the images of ``path`` to ``target`` (OCI archive) without the layers ``present``.

    ``path`` is a docker archive, an OCI archive or an OCI layout; ``name`` replaces the name of a single image.
    Raises StepError with what was expected of ``path``.
    """
    whole = unpacked(path, target.parent)
    written: dict[str, int] = {}
    with opened(whole) as source, tarfile.open(target, "w") as thin:
        images = images_in(path, source, name)
        entries: list[dict[str, Any]] = []
        for image in images:
            for layer in image.layers:
                digest, size = layer.descriptor["digest"], layer.descriptor["size"]
                if digest in present or digest in written:
                    continue
                with source.open(layer.file) as content:
                    _add(thin, _blob(digest), content, size)
                written[digest] = size
            entries += _describe(thin, image)
        _add_bytes(thin, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        _add_bytes(thin, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return Thin(tuple(name for image in images for name in image.names), sum(written.values()))


def _describe(tar: tarfile.TarFile, image: Image) -> list[dict[str, Any]]:
    """Add configuration and manifest; the entries of the index, one for each name."""
    _add_bytes(tar, _blob(image.config_digest), image.config)
    digest = digest_of(image.manifest)
    _add_bytes(tar, _blob(digest), image.manifest)
    described = {"mediaType": image.media_type, "digest": digest, "size": len(image.manifest)}
    return [{**described, "annotations": {NAME: name, REF_NAME: name}} for name in image.names]


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add(tar, name, io.BytesIO(content), len(content))


def _add(tar: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)
