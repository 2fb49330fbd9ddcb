"""Container images in all forms, small ones."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LAYERS = (b"base layer" * 100, b"own layer" * 100)
OCI = "application/vnd.oci.image"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def docker_archive(path: Path, *entries: dict[str, Any], layers: tuple[bytes, ...] = LAYERS) -> Path:
    """Write a docker archive with an image for each of ``entries``, which change its entry in manifest.json."""
    config = json.dumps({"rootfs": {"diff_ids": list(map(digest, layers))}}).encode()
    stored = {f"{number}.tar": layer for number, layer in enumerate(layers)}
    standard = {"Config": "config.json", "RepoTags": ["localhost/image:1"], "Layers": list(stored)}
    manifest = json.dumps([{**standard, **entry} for entry in entries or ({},)]).encode()
    return write_tar(path, {"manifest.json": manifest, "config.json": config, **stored})


class Layout:
    """Files of an OCI layout."""

    def __init__(self) -> None:
        self.files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        self.files[f"blobs/{digest(content).replace(':', '/')}"] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}

    def json(self, value: Any, media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type)

    def image(self, layers: Sequence[bytes] = LAYERS, architecture: str = "amd64") -> dict[str, Any]:
        """Descriptor of an image's manifest."""
        config = {"architecture": architecture, "os": "linux", "rootfs": {"diff_ids": list(map(digest, layers))}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.json(config, f"{OCI}.config.v1+json"),
            "layers": [self.blob(layer, f"{OCI}.layer.v1.tar") for layer in layers],
        }
        return self.json(manifest, f"{OCI}.manifest.v1+json")

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """Descriptor of an index of images for several platforms."""
        return self.json({"schemaVersion": 2, "manifests": entries}, f"{OCI}.index.v1+json")

    def write(self, path: Path, *entries: dict[str, Any]) -> Path:
        """Write the layout with these entries in index.json; a tar if the path ends so, else a folder."""
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        if path.suffix == ".tar":
            return write_tar(path, self.files)
        for name, content in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path


def named(entry: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """An entry of index.json with the annotations ``full`` (containerd) and ``ref`` (image-spec)."""
    keys = {"full": "io.containerd.image.name", "ref": "org.opencontainers.image.ref.name"}
    return {**entry, "annotations": {keys[key]: value for key, value in annotations.items()}}
