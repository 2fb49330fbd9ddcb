"""Go programs: what is built, with which version, and how often."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.fake_command import FakeCommand, fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import gobuild
from mock_device.lab.build.node_image import NODE_PROGRAMS

# Writes the files of `go build -o FILE` and `GOBIN=FOLDER go install COMMAND@VERSION...`.
GO = [
    "argv = sys.argv",
    "names = [argv[argv.index('-o') + 1]] if argv[1] == 'build' else "
    "[os.path.join(os.environ['GOBIN'], item.partition('@')[0].rpartition('/')[2]) for item in argv if '@' in item]",
    "for name in names:",
    "    open(name, 'w').close()",
]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCommand:
    """A fake Go tool chain that builds empty files, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake_command(monkeypatch, tmp_path, "go", GO)


def test_version_comes_from_the_module() -> None:
    version = gobuild.kubernetes_version()
    assert re.fullmatch(r"v1\.37\.\d+", version)
    assert f"k8s.io/kubernetes {version}\n" in (PROJECT / "embedded-k8s/go.mod").read_text()


def test_module_without_kubernetes_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n\nrequire (\n\tk8s.io/kubernetes/staging v1.0.0\n)\n")
    monkeypatch.setattr(gobuild, "_SOURCE", tmp_path)
    with pytest.raises(StepError, match=r"go\.mod does not require k8s\.io/kubernetes"):
        gobuild.kubernetes_version()


def test_version_is_stamped_for_servers_and_clients() -> None:
    flags = gobuild.version_flags("v1.37.2").split(" -X ")
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for value in ("gitVersion=v1.37.2", "gitMajor=1", "gitMinor=37"):
            assert f"{package}.{value}" in {flag.removeprefix("-X ") for flag in flags}


def test_kubernetes_is_one_binary_with_a_link_for_each_component(go: FakeCommand) -> None:
    folder = gobuild.build_embedded_k8s.__wrapped__()
    assert {path.name for path in folder.iterdir()} == {"embedded-k8s", *gobuild.COMPONENTS}
    for name in gobuild.COMPONENTS:
        assert (folder / name).resolve() == folder / "embedded-k8s"
    assert set(NODE_PROGRAMS) <= set(gobuild.COMPONENTS)
    (call,) = go.calls
    assert call["cwd"] == str(PROJECT / "embedded-k8s")
    assert call["env"]["CGO_ENABLED"] == "0"
    assert gobuild.version_flags(gobuild.kubernetes_version()) in call["argv"][call["argv"].index("-ldflags") + 1]


def test_kubernetes_is_built_once(go: FakeCommand) -> None:
    assert gobuild.build_embedded_k8s.__wrapped__() == gobuild.build_embedded_k8s.__wrapped__()
    assert len(go.calls) == 1


def test_containerd_has_its_shim_and_its_client(go: FakeCommand) -> None:
    folder = gobuild.build_containerd.__wrapped__()
    assert {path.name for path in folder.iterdir()} == {"containerd", "containerd-shim-runc-v2", "ctr"}
    for call in go.calls:
        assert f"version.Version=v{gobuild.CONTAINERD_VERSION}" in " ".join(call["argv"])
        assert all(item.endswith(f"@v{gobuild.CONTAINERD_VERSION}") for item in call["argv"] if "@" in item)


def test_helm_is_built_from_pinned_modules(go: FakeCommand) -> None:
    assert (gobuild.build_helm.__wrapped__() / "helm").exists()
    (call,) = go.calls
    folder = Path(call["cwd"])
    version = gobuild.helm_version()
    assert re.fullmatch(r"v4\.\d+\.\d+", version)
    assert f"helm.sh/helm/v4 {version} h1:" in (folder / "go.sum").read_text()
    assert call["argv"][-1] == "helm.sh/helm/v4/cmd/helm"
    assert f"version.version={version}" in " ".join(call["argv"])


def test_example_of_a_driver_is_static_and_its_tests_are_no_input(
    go: FakeCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "go-driver"
    shutil.copytree(gobuild.GO_DRIVER, source)
    monkeypatch.setattr(gobuild, "GO_DRIVER", source)
    program = gobuild.build_go_driver.__wrapped__()
    (call,) = go.calls
    assert (call["cwd"], call["env"]["CGO_ENABLED"]) == (str(source), "0")
    assert {"-trimpath", "-s -w"} <= {*call["argv"]}
    (source / "driver_test.go").write_text("package main")
    assert gobuild.build_go_driver.__wrapped__() == program
    (source / "cdi.go").write_text("package main")
    assert gobuild.build_go_driver.__wrapped__() != program


def test_failed_build_names_its_log_and_is_retried(
    go: FakeCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_command(monkeypatch, tmp_path, "go", ["print('undefined: x')", "sys.exit(1)"])
    with pytest.raises(StepError, match=r"undefined: x[\s\S]*log: .*/logs/containerd\.log"):
        gobuild.build_containerd.__wrapped__()
    fake_command(monkeypatch, tmp_path, "go", GO)
    assert (gobuild.build_containerd.__wrapped__() / "ctr").exists()
