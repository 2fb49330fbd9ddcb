"""Downloading an operator by version, with fake programs in place of git, kubectl and skopeo."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import image_pull, prerequisites
from mock_device.lab.cluster import operator_download
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.loader_settings import KmmSettings
from mock_device.lab.cluster.operator_download import KMM_SOURCE

MANIFESTS = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: manager}
spec:
  template:
    spec:
      containers:
        - image: registry.example.com/operator:latest
          env:
            - {name: RELATED_IMAGE_WORKER, value: 'registry.example.com/worker:v9'}
            - {name: RELATED_IMAGE_BUILD, value: 'registry.example.com/build:latest'}
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that are run; the cache is empty."""
    run: list[list[str]] = []

    def fake(argv: Sequence[str | Path], **_: Any) -> bytes:
        command = [Path(part).name if number == 0 else str(part) for number, part in enumerate(argv)]
        run.append(command)
        if command[0] == "git":
            Path(command[-1]).mkdir()
        return MANIFESTS

    def pull(reference: str, folder: Path, _: Path) -> Path:
        run.append(["pull", reference])
        (folder / "pulled").mkdir()
        return folder / "pulled"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mock-device" / "logs").mkdir(parents=True)
    monkeypatch.delenv("KMM_MANIFESTS", raising=False)
    monkeypatch.setattr(operator_download, "run", fake)
    monkeypatch.setattr(image_pull, "pull", pull)
    monkeypatch.setattr(prerequisites, "need", lambda _: None)
    monkeypatch.setattr(operator_download, "build_embedded_k8s", lambda: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/program")
    return run


def test_manifests_are_rendered_and_images_pulled_once(calls: list[list[str]]) -> None:
    found = operator_download.download(KMM_SOURCE, "v2.4.1")
    assert operator_download.download(KMM_SOURCE, "v2.4.1") == found
    clone, render, *pulls = calls
    assert clone[:7] == ["git", "clone", "--quiet", "--depth", "1", "--branch", "v2.4.1"]
    assert render[:2] == ["kubectl", "kustomize"] and render[2].endswith("/git/config/default")
    assert pulls == [["pull", "registry.example.com/operator:v2.4.1"], ["pull", "registry.example.com/worker:v9"]]
    assert [item["kind"] for item in found.objects()] == ["Deployment"]
    assert [path.parts[-2:] for path in found.archives] == [("0", "pulled"), ("1", "pulled")]
    assert not list(found.manifests[0].parent.glob("git"))


def test_missing_program_is_named(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StepError, match="KMM v2.4.1: expected the program git: apt-get install git"):
        operator_download.download(KMM_SOURCE, "v2.4.1")
    assert calls == []


@pytest.mark.usefixtures("calls")
def test_loader_downloads_only_without_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepError, match=r"KMM: expected CustomResourceDefinition modules.kmm.sigs.x-k8s.io in its"):
        _ = KmmLoader(KmmSettings(version="v2.4.1")).operator
    with pytest.raises(StepError, match="at '/nowhere.yaml', found no file"):
        _ = KmmLoader(KmmSettings(manifests=("/nowhere.yaml",), version="v2.4.1")).operator
    monkeypatch.setenv("KMM_VERSION", "v2.6.0")
    with pytest.raises(StepError, match=f"not found in {tmp_path}/mock-device/operator-kmm/"):
        _ = KmmLoader(KmmSettings()).operator
