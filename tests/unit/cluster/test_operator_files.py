"""Finding an operator's files, which are the user's, and reading what images archives have."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support.image_files import Layout, docker_archive, named

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import operator_files
from mock_device.lab.cluster.operator_files import OperatorFiles

SOURCES = ("KMM_MANIFESTS or kmm.manifests in the profile", "KMM_IMAGES or kmm.images in the profile")
DEPLOYMENT = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}\n"


def docker(path: Path, *names: str) -> Path:
    return docker_archive(path, *({"RepoTags": [name]} for name in names))


def find(manifests: list[str], archives: list[str]) -> OperatorFiles:
    return operator_files.find("KMM", manifests, archives, sources=SOURCES)


def test_folders_patterns_and_files_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / name).write_text(DEPLOYMENT)
    first, second = docker(tmp_path / "1.tar", "a/x:1"), docker(tmp_path / "2.tar", "a/y:1")
    found = find([str(tmp_path)], [str(tmp_path / "2.tar"), str(tmp_path / "*.tar")])
    assert found.manifests == (tmp_path / "b.yaml", tmp_path / "a.yml")
    assert found.archives == (second, first)
    assert found.image_names() == {"docker.io/a/x:1": first, "docker.io/a/y:1": second}
    assert [item["kind"] for item in found.objects()] == ["Deployment", "Deployment"]


def test_environment_takes_precedence_and_is_split_at_colons() -> None:
    assert operator_files.patterns("KMM_IMAGES", ["profile"], {"KMM_IMAGES": "/a.tar:/b/*.tar:"}) == [
        "/a.tar",
        "/b/*.tar",
    ]
    assert operator_files.patterns("KMM_IMAGES", ["profile"], {"KMM_IMAGES": ""}) == ["profile"]
    assert operator_files.patterns("KMM_IMAGES", ["profile"], {}) == ["profile"]


def test_missing_files_are_named_with_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match="KMM: expected rendered manifests .*, found none: set KMM_MANIFESTS or kmm.man"
    ):
        find([], [])
    manifest = tmp_path / "kmm.yaml"
    manifest.write_text(DEPLOYMENT)
    with pytest.raises(StepError, match="KMM: expected image archives .*, found none: set KMM_IMAGES or kmm.images in"):
        find([str(manifest)], [])
    with pytest.raises(StepError, match=r"at '.*/x\*.tar', found no file; it comes from KMM_IMAGES or kmm.images"):
        find([str(manifest)], [str(tmp_path / "x*.tar")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected Kubernetes objects of KMM, found something else; render them first: kubectl kustomize"),
        ("resources: [../crd]\n", "expected Kubernetes objects of KMM, found something else"),
        ("just text", "expected rendered manifests .* of KMM: 'str' object has no attribute 'get'"),
        ("a: [", "expected rendered manifests .* of KMM: while parsing"),
    ],
)
def test_file_without_objects_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "kmm.yaml"
    path.write_text(text)
    with pytest.raises(StepError, match=rf"kmm\.yaml: {reason}"):
        OperatorFiles("KMM", (path,), ()).objects()


def test_checksums_are_by_name_and_by_folder_where_names_are_equal(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/image.tar", "b/image.tar", "kmm.yaml")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.parent.name)
    found = OperatorFiles("KMM", (paths[2],), tuple(paths[:2])).checksums()
    assert list(found) == ["kmm.yaml", "a/image.tar", "b/image.tar"]
    assert found["a/image.tar"] == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_names_in_archives_and_layouts(tmp_path: Path) -> None:
    several = docker(tmp_path / "docker.tar", "quay.io/x/a:1", "x/b:2")
    assert operator_files.names_of(several) == ["quay.io/x/a:1", "docker.io/x/b:2"]
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(several.read_bytes()))
    assert operator_files.names_of(packed) == ["quay.io/x/a:1", "docker.io/x/b:2"]
    layout = Layout()
    entry = named(layout.image(), full="ghcr.io/x/a:1.0", ref="1.0")
    assert operator_files.names_of(layout.write(tmp_path / "oci.tar", entry)) == ["ghcr.io/x/a:1.0"]
    assert operator_files.names_of(layout.write(tmp_path / "layout", entry)) == ["ghcr.io/x/a:1.0"]


def test_layout_is_an_archive_and_other_folders_have_some(tmp_path: Path) -> None:
    manifest = tmp_path / "kmm.yaml"
    manifest.write_text(DEPLOYMENT)
    layout = Layout()
    folder = layout.write(tmp_path / "layout", named(layout.image(), ref="ghcr.io/x/b:1.0"))
    (tmp_path / "images").mkdir()
    inside = docker(tmp_path / "images" / "a.tar", "quay.io/x/a:1")
    found = find([str(manifest)], [str(folder), str(tmp_path / "images")])
    assert found.archives == (folder, inside)
    assert len(found.checksums()["layout"]) == 64


def test_archives_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"none\.tar: 1 of 1 images have no name; give it: --as NAME:TAG"):
        operator_files.names_of(docker_archive(tmp_path / "none.tar", {"RepoTags": None}))
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(StepError, match=r"text\.tar: expected a docker archive, an OCI archive or an OCI layout"):
        operator_files.names_of(tmp_path / "text.tar")
