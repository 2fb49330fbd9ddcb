"""Thin images, without the layers that nodes already have."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.image_files import digest, write_tar

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.thin_image import write_thin

BASE, OWN = b"base layer" * 100, b"own layer" * 100


def docker_archive(path: Path, stored: tuple[bytes, ...] = (BASE, OWN), **changes: Any) -> Path:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(BASE), digest(OWN)]}}).encode()
    names = [f"{number}.tar" for number in range(len(stored))]
    entry = {"Config": "config.json", "RepoTags": ["localhost/image:1"], "Layers": names, **changes}
    files = {"manifest.json": json.dumps([entry]).encode(), "config.json": config}
    return write_tar(path, files | dict(zip(names, stored, strict=True)))


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def manifest_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    (entry,) = json.loads(files["index.json"])["manifests"]
    name = "localhost/image:1"
    assert entry["annotations"] == {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    content = files[f"blobs/{entry['digest'].replace(':', '/')}"]
    assert (digest(content), len(content)) == (entry["digest"], entry["size"])
    manifest: dict[str, Any] = json.loads(content)
    return manifest


def test_layers_of_the_nodes_are_described_but_omitted(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "image.tar")
    assert write_thin(archive, tmp_path / "thin.tar", {digest(BASE)}).size == len(OWN)
    files = read_tar(tmp_path / "thin.tar")
    layers = manifest_of(files)["layers"]
    assert [(layer["digest"], layer["size"]) for layer in layers] == [(digest(BASE), 1000), (digest(OWN), 900)]
    assert files[f"blobs/{digest(OWN).replace(':', '/')}"] == OWN
    assert f"blobs/{digest(BASE).replace(':', '/')}" not in files


def test_config_is_unchanged(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "image.tar")
    write_thin(archive, tmp_path / "thin.tar", ())
    files = read_tar(tmp_path / "thin.tar")
    config = manifest_of(files)["config"]
    assert files[f"blobs/{config['digest'].replace(':', '/')}"] == read_tar(archive)["config.json"]


def test_compressed_layer_is_never_omitted(tmp_path: Path) -> None:
    """Nodes have the layer under another digest, so containerd would not find it."""
    packed = gzip.compress(BASE)
    archive = docker_archive(tmp_path / "image.tar", (packed, OWN))
    write_thin(archive, tmp_path / "thin.tar", {digest(BASE)})
    layer = manifest_of(read_tar(tmp_path / "thin.tar"))["layers"][0]
    assert layer["digest"] == digest(packed)
    assert layer["mediaType"].endswith("tar.gzip")


def test_truncated_or_overwritten_archive_is_rejected(tmp_path: Path) -> None:
    whole = docker_archive(tmp_path / "whole.tar").read_bytes()
    damaged = tmp_path / "damaged.tar"
    end = whole.rstrip(b"\0")
    contents = [whole[:length] for length in range(0, len(end), 200)]
    contents += [whole[:start] + b"\xff" * 64 + whole[start + 64 :] for start in range(0, len(end), 256)]
    refused = 0
    for content in contents:
        damaged.write_bytes(content)
        try:
            write_thin(damaged, tmp_path / "thin.tar", set())
        except StepError as error:
            assert str(error).startswith(f"{damaged}: ")
            refused += 1
    assert refused > len(contents) / 2
