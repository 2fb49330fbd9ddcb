"""Finding an operator's files, which are the user's, and reading what images archives have."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import operator_files
from mock_device.lab.cluster.operator_files import OperatorFiles

SOURCES = ("KMM_MANIFESTS or kmm.manifests in the profile", "KMM_IMAGES or kmm.images in the profile")
DEPLOYMENT = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}\n"


def write_tar(path: Path, files: dict[str, object]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def docker(path: Path, *names: str) -> Path:
    return write_tar(path, {"manifest.json": [{"RepoTags": [name]} for name in names]})


def find(manifests: list[str], archives: list[str]) -> OperatorFiles:
    return operator_files.find("KMM", manifests, archives, sources=SOURCES)


def test_folders_patterns_and_files_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / name).write_text(DEPLOYMENT)
    first, second = docker(tmp_path / "1.tar", "x:1"), docker(tmp_path / "2.tar", "y:1")
    found = find([str(tmp_path)], [str(tmp_path / "2.tar"), str(tmp_path / "*.tar")])
    assert found.manifests == (tmp_path / "b.yaml", tmp_path / "a.yml")
    assert found.archives == (second, first)
    assert found.image_names() == {"x:1": first, "y:1": second}
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


def test_names_in_docker_and_oci_archives(tmp_path: Path) -> None:
    several = docker(tmp_path / "docker.tar", "quay.io/x/a:1", "quay.io/x/b:2")
    assert operator_files.names_of(several) == ["quay.io/x/a:1", "quay.io/x/b:2"]
    entries = [
        {"annotations": {"org.opencontainers.image.ref.name": "1.0", "io.containerd.image.name": "ghcr.io/x/a:1.0"}},
        {"annotations": {"org.opencontainers.image.ref.name": "ghcr.io/x/b:1.0"}},
        {"annotations": {"org.opencontainers.image.ref.name": "only-a-tag"}},
    ]
    oci = write_tar(tmp_path / "oci.tar", {"./index.json": {"manifests": entries}})
    assert operator_files.names_of(oci) == ["ghcr.io/x/a:1.0", "ghcr.io/x/b:1.0"]


def test_archives_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match=r"none\.tar: its images have no names; save them by name: docker save NAME:TAG"
    ):
        operator_files.names_of(write_tar(tmp_path / "none.tar", {"manifest.json": [{"RepoTags": None}]}))
    with pytest.raises(StepError, match=r"other\.tar: expected a docker archive or an OCI archive: KeyError"):
        operator_files.names_of(write_tar(tmp_path / "other.tar", {"x": 1}))
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(StepError, match=r"text\.tar: expected a docker archive or an OCI archive: ReadError"):
        operator_files.names_of(tmp_path / "text.tar")
