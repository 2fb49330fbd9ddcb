"""Builds Kubernetes' own tests of DRA (``embedded-k8s/e2e``), and the images that they use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import gobuild, images
from mock_device.lab.build.store import Input, cached

SOURCE = PROJECT / "embedded-k8s" / "e2e"
SUITE = "dra-e2e.test"
"""The tests; ginkgo takes a file for a compiled suite if its name ends so."""
GINKGO = "ginkgo"
_FORWARDER, _DEVICE_PLUGIN, _BUSYBOX = "hostpathplugin", "sample-device-plugin", "busybox"
_PACKAGES = {
    SUITE: ".",
    GINKGO: "github.com/onsi/ginkgo/v2/ginkgo",
    _FORWARDER: "./hostpathplugin",
    _DEVICE_PLUGIN: "k8s.io/kubernetes/test/images/sample-device-plugin",
}
# Where the programs are in upstream's images; the tests call the first one by its path.
_PATHS = {_FORWARDER: "/hostpathplugin", _DEVICE_PLUGIN: "/sampledeviceplugin"}


@dataclass(frozen=True)
class TestImage:
    """An image that the tests use."""

    __test__ = False  # not a class of tests, for pytest

    name: str
    """By which the tests ask for it."""
    archive: Path
    """Made here; has another name."""


@cache
def build_programs() -> Path:
    """Folder with the tests, the ginkgo command that runs them, and programs of their images; built if not cached."""
    version = gobuild.kubernetes_version()

    def build(folder: Path) -> None:
        for name, package in _PACKAGES.items():
            # Flags as for Kubernetes itself, so that both share their compiled packages.
            argv = ["go", "build", "-trimpath", "-ldflags", f"-s -w {gobuild.version_flags(version)}"]
            argv += ["-o", str(folder / name), package]
            environment = {"CGO_ENABLED": "0"}
            run(argv, cwd=SOURCE, env=environment, log=log_path("kubernetes-e2e"), timeout=Timeout.GO_BUILD.seconds)

    inputs: dict[str, Input] = {"sources": [*gobuild.module_sources(SOURCE)], "packages": list(_PACKAGES.values())}
    return cached("kubernetes-e2e", inputs, build, what=f"DRA tests of Kubernetes {version} (minutes, once)")


def build_images() -> list[TestImage]:
    """The images that the tests use, under the names by which they ask for them. Raises StepError."""
    programs = build_programs()
    names = _names(programs)
    archives = {name: images.program_image(name, programs / name, path) for name, path in _PATHS.items()}
    archives[_BUSYBOX] = images.test_image()
    return [TestImage(names[what], archives[what]) for what in sorted(archives)]


def _names(programs: Path) -> Mapping[str, str]:
    """Name of each image, by what it is, as the tests say. Raises StepError if they want others than are made here."""
    answer = run([programs / SUITE, "-images"], timeout=Timeout.E2E_ANSWER.seconds)
    try:
        names = {str(what): str(name) for what, name in json.loads(answer).items()}
    except (ValueError, AttributeError) as error:
        raise StepError(f"{SUITE} -images: expected a JSON object with names of images, found {answer!r}") from error
    made = {*_PATHS, _BUSYBOX}
    if names.keys() != made:
        raise StepError(f"{SUITE} uses the images {', '.join(sorted(names))}; expected {', '.join(sorted(made))}")
    return names
