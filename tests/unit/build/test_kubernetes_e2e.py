"""Kubernetes' own tests of DRA: what is built, and how it stays beside Kubernetes in Go's cache."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.fake_command import FakeCommand, fake_command

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import gobuild, images, kubernetes_e2e
from mock_device.lab.build.kubernetes_e2e import SOURCE, TestImage

KUBERNETES = PROJECT / "embedded-k8s"
NAMES = {
    "busybox": "r.example/busybox:1",
    "hostpathplugin": "r.example/host:2",
    "sample-device-plugin": "r.example/p:3",
}
# Builds a program that prints the names, whatever its arguments are.
GO = [
    "path = sys.argv[sys.argv.index('-o') + 1]",
    "with open(path, 'w') as program:",
    "    program.write('#!/bin/sh\\ncat <<EOF\\n' + os.environ['ANSWER'] + '\\nEOF\\n')",
    "os.chmod(path, 0o755)",
]
REQUIRED = re.compile(r"^\t(\S+) (v\S+)(?: // indirect)?$", re.MULTILINE)
REPLACED = re.compile(r"^\t(\S+) => (\S+ v\S+)$", re.MULTILINE)


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCommand:
    """A fake Go tool chain, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ANSWER", json.dumps(NAMES))
    return fake_command(monkeypatch, tmp_path, "go", GO)


@pytest.fixture
def programs(go: FakeCommand, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs, as the fake tool chain builds them; images are named after what they contain."""
    folder: Path = kubernetes_e2e.build_programs.__wrapped__()
    monkeypatch.setattr(kubernetes_e2e, "build_programs", lambda: folder)
    monkeypatch.setattr(images, "program_image", lambda name, program, path: Path(f"{name} at {path}"))
    monkeypatch.setattr(images, "test_image", lambda: Path("pods"))
    return folder


def test_programs_are_built_like_kubernetes(go: FakeCommand) -> None:
    folder = kubernetes_e2e.build_programs.__wrapped__()
    assert {path.name for path in folder.iterdir()} == {
        "dra-e2e.test",
        "ginkgo",
        "hostpathplugin",
        "sample-device-plugin",
    }
    for call in go.calls:
        assert call["cwd"] == str(SOURCE)
        assert call["env"]["CGO_ENABLED"] == "0"
        assert "-trimpath" in call["argv"]
        assert gobuild.version_flags(gobuild.kubernetes_version()) in call["argv"][call["argv"].index("-ldflags") + 1]


def test_images_have_the_names_for_which_the_tests_ask(programs: Path) -> None:
    assert kubernetes_e2e.build_images() == [
        TestImage("r.example/busybox:1", Path("pods")),
        TestImage("r.example/host:2", Path("hostpathplugin at /hostpathplugin")),
        TestImage("r.example/p:3", Path("sample-device-plugin at /sampledeviceplugin")),
    ]


def test_an_image_that_is_not_made_is_an_error(programs: Path) -> None:
    text = (programs / "dra-e2e.test").read_text()
    (programs / "dra-e2e.test").write_text(text.replace("busybox", "agnhost", 1))
    with pytest.raises(StepError, match=r"uses the images agnhost, hostpathplugin, .*; expected busybox"):
        kubernetes_e2e.build_images()


@pytest.mark.parametrize("answer", ["usage", "[1]"])
def test_another_answer_is_an_error(programs: Path, answer: str) -> None:
    (programs / "dra-e2e.test").write_text(f"#!/bin/sh\necho '{answer}'\n")
    with pytest.raises(StepError, match="expected a JSON object with names of images"):
        kubernetes_e2e.build_images()


def test_both_modules_have_the_same_versions() -> None:
    """Else the tests would not be those of this Kubernetes, and would share no compiled packages with it."""
    ours, theirs = ((folder / "go.mod").read_text() for folder in (SOURCE, KUBERNETES))
    versions, expected = dict(REQUIRED.findall(ours)), dict(REQUIRED.findall(theirs))
    common = versions.keys() & expected.keys()
    assert len(common) > 100
    assert {name: versions[name] for name in common} == {name: expected[name] for name in common}
    assert dict(REPLACED.findall(ours)) == dict(REPLACED.findall(theirs))


def test_kubernetes_is_not_built_again_when_its_tests_change() -> None:
    sources = gobuild.module_sources(KUBERNETES)
    assert KUBERNETES / "main.go" in sources
    assert KUBERNETES / "standin/run.go" in sources
    assert not [path for path in sources if SOURCE in path.parents or path.name.endswith("_test.go")]
    own = {str(path.relative_to(SOURCE)) for path in gobuild.module_sources(SOURCE)}
    assert {"go.mod", "go.sum", "main.go", "hostpathplugin/main.go"} <= own


@pytest.mark.slow
@pytest.mark.parametrize("command", [["vet"], ["test"]], ids=["vet", "test"])
def test_forwarder(command: list[str]) -> None:
    environment = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    run(["go", *command, "./hostpathplugin"], cwd=SOURCE, env=environment, timeout=280)
