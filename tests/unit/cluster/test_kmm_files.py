"""Which files the KMM loader takes, and what a golden cluster with it depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import DATA
from support.image_files import docker_archive

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.store import key_of
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.loader_settings import CertKind, KmmSettings
from mock_device.lab.cluster.module_loader import PodLoader
from mock_device.lab.cluster.operator_files import MissingFilesError

CRD = str(DATA / "kmm" / "modules.kmm.sigs.x-k8s.io.yaml")
STAND_IN = str(DATA / "kmm" / "stand-in.yaml")
OTHER = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: issuer}
spec: {template: {spec: {containers: [{name: issuer, image: 'x/issuer:1'}]}}}
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for operator in ("KMM", "CERT_MANAGER"):
        for what in ("MANIFESTS", "IMAGES", "VERSION"):
            monkeypatch.delenv(f"{operator}_{what}", raising=False)


def archive(path: Path, name: str) -> str:
    return str(docker_archive(path, {"RepoTags": [name]}))


@pytest.fixture
def kmm(tmp_path: Path) -> KmmSettings:
    """Settings with all files of the stand-in."""
    operator, worker = (
        archive(tmp_path / f"{name}.tar", f"x/{name}:1") for name in ("kmm-stand-in", "worker-stand-in")
    )
    return KmmSettings(manifests=(CRD, STAND_IN), images=(operator, worker))


@pytest.fixture
def issuer(tmp_path: Path) -> tuple[str, str]:
    """A manifest and an archive in place of cert-manager's."""
    (tmp_path / "issuer.yaml").write_text(OTHER)
    return str(tmp_path / "issuer.yaml"), archive(tmp_path / "issuer.tar", "x/issuer:1")


def with_issuer(kmm: KmmSettings, issuer: tuple[str, str], cert: CertKind | None = None) -> KmmSettings:
    return KmmSettings(
        manifests=kmm.manifests,
        images=kmm.images,
        cert=cert,
        cert_manager_manifests=issuer[:1],
        cert_manager_images=issuer[1:],
    )


def test_lab_issues_certificates_unless_cert_manager_is_there(kmm: KmmSettings, issuer: tuple[str, str]) -> None:
    assert KmmLoader(kmm).cert_manager is None
    assert [path.name for path in KmmLoader(kmm).archives()] == ["kmm-stand-in.tar", "worker-stand-in.tar"]
    given = KmmLoader(with_issuer(kmm, issuer))
    assert [path.name for path in given.archives()] == ["issuer.tar", "kmm-stand-in.tar", "worker-stand-in.tar"]
    assert KmmLoader(with_issuer(kmm, issuer, CertKind.LAB)).cert_manager is None


def test_cert_manager_without_its_files_is_named(kmm: KmmSettings) -> None:
    settings = KmmSettings(manifests=kmm.manifests, images=kmm.images, cert=CertKind.CERT_MANAGER)
    reason = "cert-manager: expected rendered manifests .* set CERT_MANAGER_MANIFESTS or kmm.cert-manager-manifests in"
    with pytest.raises(MissingFilesError, match=reason):
        KmmLoader(settings).archives()


def test_environment_takes_precedence(
    kmm: KmmSettings, issuer: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMM_MANIFESTS", issuer[0])
    with pytest.raises(StepError, match=r"expected CustomResourceDefinition modules.* not found in .*issuer\.yaml"):
        KmmLoader(kmm).archives()


def test_missing_images_are_found_before_a_cluster_starts(kmm: KmmSettings) -> None:
    without = KmmSettings(manifests=kmm.manifests, images=kmm.images[:1])
    with pytest.raises(StepError, match="found none of registry.example.com/kmm/worker-stand-in:latest"):
        KmmLoader(without).archives()


def test_golden_cluster_depends_on_loader_and_files(kmm: KmmSettings, issuer: tuple[str, str], tmp_path: Path) -> None:
    assert PodLoader().inputs() == {} and PodLoader().archives() == []
    first = key_of(KmmLoader(kmm).inputs())
    assert key_of(KmmLoader(kmm).inputs()) == first
    assert key_of(KmmLoader(with_issuer(kmm, issuer)).inputs()) != first
    archive(tmp_path / "worker-stand-in.tar", "x/worker-stand-in:2")
    assert key_of(KmmLoader(kmm).inputs()) != first
