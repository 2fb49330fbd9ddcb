"""Official manifests and images of an operator, by version, for machines with internet access. Not verified.

The project's own machines reach package registries only, so this has been tested with fake programs. Users
who have the files name them instead (``operator_files``).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.paths import log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import image_pull, prerequisites
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.build.store import cached
from mock_device.lab.cluster import operator_manifests
from mock_device.lab.cluster.operator_files import OperatorFiles
from mock_device.lab.kube.manifests import read_manifest

_MANIFESTS, _IMAGES = "manifests.yaml", "images"


@dataclass(frozen=True)
class Source:
    """Where the files of an operator's versions are."""

    operator: str
    repository: str
    """Git repository with a tag for each version."""
    folder: str
    """Folder of a kustomization in it."""


KMM_SOURCE = Source("KMM", "https://github.com/kubernetes-sigs/kernel-module-management", "config/default")


def download(source: Source, version: str) -> OperatorFiles:
    """Files of ``version`` (a tag such as ``v2.4.1``), from the cache if they are there. Raises StepError."""
    kind = f"operator-{source.operator.lower()}"

    def build(folder: Path) -> None:
        if shutil.which("git") is None:
            raise StepError(f"{source.operator} {version}: expected the program git: apt-get install git")
        prerequisites.need(prerequisites.SKOPEO)
        log = log_path(kind)
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", version, source.repository, str(folder / "git")]
        run(clone, log=log, timeout=Timeout.OPERATOR_CLONE.seconds)
        kubectl = str(build_embedded_k8s() / "kubectl")
        text = run([kubectl, "kustomize", str(folder / "git" / source.folder)], timeout=Timeout.OPERATOR_RENDER.seconds)
        write_file(folder / _MANIFESTS, text)
        objects = read_manifest(folder / _MANIFESTS)
        for number, name in enumerate(images_to_pull(operator_manifests.images_of(objects), version)):
            target = folder / _IMAGES / str(number)
            target.mkdir(parents=True)
            image_pull.pull(name, target, log)
        remove_tree(folder / "git")

    inputs = {"repository": source.repository, "folder": source.folder, "version": version}
    found = cached(kind, inputs, build, what=f"{source.operator} {version}, manifests and images")
    return OperatorFiles(source.operator, (found / _MANIFESTS,), tuple(sorted((found / _IMAGES).glob("*/*"))))


def images_to_pull(names: Sequence[str], version: str) -> list[str]:
    """Names of images with ``version`` in place of the tag ``latest``, which a repository's manifests have."""
    suffix = ":latest"
    return [f"{name.removesuffix(suffix)}:{version}" if name.endswith(suffix) else name for name in names]
