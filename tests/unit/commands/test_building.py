"""``lab build`` builds Kubernetes in another process while it builds the other parts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mock_device.commands import building, cli
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import images, node_image, prerequisites, store

Popen = subprocess.Popen


class Builds:
    """Fake builds, in the order in which they are done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cached: bool) -> None:
        self.done: list[str] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self._cached = cached
        monkeypatch.setattr(prerequisites, "check", lambda: None)
        monkeypatch.setattr(building, "_BUILDS", {name: self._build(name) for name in building._BUILDS})
        monkeypatch.setattr(building, "_EXAMPLES", {name: self._build(name) for name in building._EXAMPLES})
        monkeypatch.setattr(building, "_kubernetes", self._kubernetes)
        monkeypatch.setattr(node_image, "build_node_packages", self._build("packages"))
        monkeypatch.setattr(images, "build_base_images", self._build("base images"))
        monkeypatch.setattr(subprocess, "Popen", self._start)

    def _build(self, name: str) -> Callable[[], Path]:
        def build() -> Path:
            self.done.append(name)
            return Path("/cache", name)

        return build

    def _kubernetes(self) -> Path:
        if store._looking and not self._cached:
            raise store.NotCachedError("kubernetes")
        return Path("/cache/kubernetes")

    def _start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        assert argv[-3:] == ["mock_device.commands.cli", "build", "kubernetes"]
        self.done.append("in another process")
        program = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise SystemExit(7)"
        self.children.append(Popen([sys.executable, "-c", program], **options))
        return self.children[-1]


def test_kubernetes_is_built_beside_the_other_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builds = Builds(monkeypatch, cached=False)
    assert cli.main(["build"]) == 0
    assert builds.done[:3] == ["in another process", "packages", "base images"]
    assert builds.done[-2:] == ["kubernetes", "node-image"]
    parts = {"qemu", "containerd", "kmod-image", "driver-image", "tools-image", "registry"}
    assert parts == {*builds.done[3:-2]}
    assert "node-image\t/cache/node-image" in capsys.readouterr().out
    assert builds.children[0].poll() is not None


def test_example_is_built_only_if_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builds = Builds(monkeypatch, cached=True)
    assert cli.main(["build", "go-driver-image"]) == 0
    assert builds.done == ["go-driver-image"]
    assert capsys.readouterr().out == "go-driver-image\t/cache/go-driver-image\n"
    assert cli.main(["build"]) == 0
    assert builds.done.count("go-driver-image") == 1


@pytest.mark.parametrize(
    ("arguments", "cached"), [(["build"], True), (["build", "kubernetes"], False), (["build", "qemu"], False)]
)
def test_no_other_process_without_need(monkeypatch: pytest.MonkeyPatch, arguments: list[str], cached: bool) -> None:
    builds = Builds(monkeypatch, cached=cached)
    assert cli.main(arguments) == 0
    assert not builds.children
    assert "packages" not in builds.done


def test_other_process_ends_with_a_failure_here(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = Builds(monkeypatch, cached=False)

    def fails() -> Path:
        raise StepError("no disk")

    monkeypatch.setitem(building._BUILDS, "qemu", fails)
    assert cli.main(["build"]) == 1
    assert builds.children[0].poll() is not None
