"""Images in all forms that users have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support.image_files import LAYERS, Layout, digest, docker_archive, named, read_tar

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.image_source import full_name
from mock_device.lab.build.thin_image import write_thin


def names_in(thin: Path) -> list[str]:
    entries = json.loads(read_tar(thin)["index.json"])["manifests"]
    return [entry["annotations"]["io.containerd.image.name"] for entry in entries]


@pytest.mark.parametrize("form", ["image.tar", "layout"])
@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"full": "docker.io/me/app:1", "ref": "1"}, "docker.io/me/app:1"),
        ({"ref": "registry.example/app:1"}, "registry.example/app:1"),
        ({"ref": "app:1"}, "docker.io/library/app:1"),
    ],
)
def test_oci_archive_and_layout(tmp_path: Path, form: str, annotations: dict[str, str], name: str) -> None:
    layout = Layout()
    image = layout.image()
    source = layout.write(tmp_path / form, named(image, **annotations))
    thin = write_thin(source, tmp_path / "thin.tar", {digest(LAYERS[0])})
    assert (thin.names, thin.size) == ((name,), len(LAYERS[1]))
    files = read_tar(tmp_path / "thin.tar")
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert {key: entry[key] for key in image} == image
    blob = f"blobs/{image['digest'].replace(':', '/')}"
    assert files[blob] == layout.files[blob]
    assert f"blobs/{digest(LAYERS[0]).replace(':', '/')}" not in files


def test_image_of_several_platforms_is_that_of_the_nodes(tmp_path: Path) -> None:
    layout = Layout()
    wanted = layout.image()
    index = layout.index(
        {**layout.image((b"other",), "arm64"), "platform": {"os": "linux", "architecture": "arm64"}},
        {**wanted, "platform": {"os": "linux", "architecture": "amd64"}},
        {**layout.image((b"attestation",)), "platform": {"os": "unknown", "architecture": "unknown"}},
    )
    source = layout.write(tmp_path / "layout", named(index, full="docker.io/me/app:1"))
    assert write_thin(source, tmp_path / "thin.tar", ()).size == sum(map(len, LAYERS))
    (entry,) = json.loads(read_tar(tmp_path / "thin.tar")["index.json"])["manifests"]
    assert entry["digest"] == wanted["digest"]


def test_image_of_other_platforms_is_refused(tmp_path: Path) -> None:
    layout = Layout()
    other = {**layout.image((b"other",), "arm64"), "platform": {"os": "linux", "architecture": "arm64"}}
    source = layout.write(tmp_path / "layout", named(layout.index(other), full="a/b:1"))
    with pytest.raises(StepError, match="expected an image for linux/amd64, found linux/arm64"):
        write_thin(source, tmp_path / "thin.tar", ())


def test_compressed_archive(tmp_path: Path) -> None:
    packed = tmp_path / "image.tar.gz"
    packed.write_bytes(gzip.compress(docker_archive(tmp_path / "image.tar").read_bytes()))
    (tmp_path / "work").mkdir()
    assert write_thin(packed, tmp_path / "work/thin.tar", ()).names == ("localhost/image:1",)


def test_truncated_compressed_archive_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "image.tar.gz"
    packed.write_bytes(gzip.compress(docker_archive(tmp_path / "image.tar").read_bytes())[:-20])
    (tmp_path / "work").mkdir()
    with pytest.raises(StepError, match=r"image\.tar\.gz: expected a docker archive, an OCI archive or an OCI layout"):
        write_thin(packed, tmp_path / "work/thin.tar", ())


def test_archive_of_several_images_shares_layers(tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "image.tar", {}, {"RepoTags": ["other:2", "other:3"]})
    thin = write_thin(source, tmp_path / "thin.tar", ())
    assert thin.size == sum(map(len, LAYERS))
    assert names_in(tmp_path / "thin.tar") == [
        "localhost/image:1",
        "docker.io/library/other:2",
        "docker.io/library/other:3",
    ]


def test_name_replaces_that_of_the_image(tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "image.tar", {"RepoTags": None})
    assert write_thin(source, tmp_path / "thin.tar", (), "quay.io/me/app").names == ("quay.io/me/app:latest",)
    assert names_in(tmp_path / "thin.tar") == ["quay.io/me/app:latest"]


def test_name_fits_only_one_image(tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "image.tar", {}, {"RepoTags": ["other:2"]})
    with pytest.raises(StepError, match="expected one image for the name app, found 2"):
        write_thin(source, tmp_path / "thin.tar", (), "app")


@pytest.mark.parametrize("annotations", [{}, {"ref": "latest"}])
def test_image_without_a_name_is_refused(tmp_path: Path, annotations: dict[str, str]) -> None:
    layout = Layout()
    source = layout.write(tmp_path / "layout", named(layout.image(), **annotations))
    with pytest.raises(StepError, match="1 of 1 images have no name; give it: --as NAME:TAG"):
        write_thin(source, tmp_path / "thin.tar", ())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"Layers": ["0.tar"]}, "1 layers, but 2 in the configuration"),
        ({"RepoTags": None}, "1 of 1 images have no name"),
        ({"Config": "nothing.json"}, "nothing.json"),
    ],
)
def test_invalid_docker_archive_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(StepError, match=complaint):
        write_thin(docker_archive(tmp_path / "image.tar", changes), tmp_path / "thin.tar", ())


@pytest.mark.parametrize("change", ["size", "digest"])
def test_layout_that_promises_another_layer_is_refused(tmp_path: Path, change: str) -> None:
    layout = Layout()
    image = layout.image()
    manifest = json.loads(layout.files[f"blobs/{image['digest'].replace(':', '/')}"])
    manifest["layers"][1][change] = {"size": 10**6, "digest": digest(b"nothing")}[change]
    source = layout.write(tmp_path / "image.tar", named(layout.json(manifest, image["mediaType"]), full="a/b:1"))
    with pytest.raises(StepError, match=r"image\.tar: expected a whole image"):
        write_thin(source, tmp_path / "thin.tar", ())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not a tar", "expected a docker archive, an OCI archive or an OCI layout"),
        (b"\0" * 10240, "found neither manifest.json nor index.json"),
    ],
)
def test_other_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    with pytest.raises(StepError, match=complaint):
        write_thin(path, tmp_path / "thin.tar", ())


def test_archive_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="expected an image, found none"):
        write_thin(Layout().write(tmp_path / "layout"), tmp_path / "thin.tar", ())


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("me/app:1", "docker.io/me/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("quay.io/a/b@sha256:00", "quay.io/a/b@sha256:00"),
    ],
)
def test_full_name(name: str, full: str) -> None:
    assert full_name(name) == full
