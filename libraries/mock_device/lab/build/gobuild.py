"""Builds the Go programs: Kubernetes as one multi-call binary, containerd, Helm, and the example of a driver."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT, log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.store import Input, cached

COMPONENTS = (
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
CONTAINERD_VERSION = "2.4.2"
_CONTAINERD = "github.com/containerd/containerd/v2"
# Nodes do not use these snapshotters. The shim, which runs once per pod, is built without gRPC, as upstream does.
_CONTAINERD_TAGS = "no_btrfs,no_devmapper,no_zfs"
_SHIM_TAGS = "no_grpc"
_CONTAINERD_COMMANDS = {_CONTAINERD_TAGS: ("containerd", "ctr"), _SHIM_TAGS: ("containerd-shim-runc-v2",)}
_SOURCE = PROJECT / "embedded-k8s"
GO_DRIVER = PROJECT / "docs" / "examples" / "go-driver"
"""The example of a DRA driver in Go."""
_HELM = "helm.sh/helm/v4"
_HELM_SOURCE = Path(__file__).parent / "data" / "helm"


def kubernetes_version() -> str:
    """Version of Kubernetes in ``embedded-k8s/go.mod``, such as ``v1.37.2``."""
    return _required(_SOURCE / "go.mod", "k8s.io/kubernetes")


def helm_version() -> str:
    """Version of Helm in ``data/helm/go.mod``, such as ``v4.3.1``."""
    return _required(_HELM_SOURCE / "go.mod", _HELM)


def _required(file: Path, module: str) -> str:
    """Version of ``module`` that a go.mod requires. Raises StepError."""
    pattern = rf"^\s*(?:require )?{re.escape(module)} (v\d+\.\d+\.\d+)(?: // indirect)?$"
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    if not found:
        raise StepError(f"{file} does not require {module}")
    return found[1]


def version_flags(version: str) -> str:
    """Linker flags that stamp ``version``; without them clients cannot parse the server's version."""
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())


def module_sources(module: Path) -> list[Path]:
    """Files that a build of the Go module in the folder ``module`` reads: without tests and modules inside it."""
    inner = [file.parent for file in module.rglob("go.mod") if file.parent != module]
    code = [path for path in sorted(module.rglob("*.go")) if not path.name.endswith("_test.go")]
    own = [path for path in code if not any(folder in path.parents for folder in inner)]
    return [module / "go.mod", module / "go.sum", *own]


@cache
def build_embedded_k8s() -> Path:
    """Folder with ``embedded-k8s`` and a link per component; built if it is not cached."""
    sources = module_sources(_SOURCE)
    version = kubernetes_version()

    def build(folder: Path) -> None:
        argv = ["go", "build", "-trimpath", "-ldflags", f"-s -w {version_flags(version)}"]
        argv += ["-o", str(folder / "embedded-k8s"), "."]
        environment = {"CGO_ENABLED": "0"}
        run(argv, cwd=_SOURCE, env=environment, log=log_path("kubernetes"), timeout=Timeout.GO_BUILD.seconds)
        for name in COMPONENTS:
            (folder / name).symlink_to("embedded-k8s")

    inputs: dict[str, Input] = {"sources": sources, "components": COMPONENTS}
    return cached("kubernetes", inputs, build, what=f"build Kubernetes {version} (about 10 minutes, once)")


@cache
def build_registry() -> Path:
    """The program of a cluster's registry; built if it is not cached."""
    source = PROJECT / "registry"
    sources = [source / "go.mod", source / "go.sum", *sorted(source.glob("*.go"))]

    def build(folder: Path) -> None:
        argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "lab-registry"), "."]
        environment = {"CGO_ENABLED": "0"}
        run(argv, cwd=source, env=environment, log=log_path("registry"), timeout=Timeout.GO_BUILD.seconds)

    inputs: dict[str, Input] = {"sources": sources}
    return cached("registry", inputs, build, what="registry of clusters") / "lab-registry"


@cache
def build_go_driver() -> Path:
    """The example's program, static; built if it is not cached. Its tests are no input."""
    code = [path for path in sorted(GO_DRIVER.glob("*.go")) if not path.name.endswith("_test.go")]

    def build(folder: Path) -> None:
        argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / GO_DRIVER.name), "."]
        environment = {"CGO_ENABLED": "0"}
        run(argv, cwd=GO_DRIVER, env=environment, log=log_path("go-driver"), timeout=Timeout.GO_BUILD.seconds)

    inputs: dict[str, Input] = {"sources": [GO_DRIVER / "go.mod", GO_DRIVER / "go.sum", *code]}
    return cached("go-driver", inputs, build, what="build the example driver in Go (minutes, once)") / GO_DRIVER.name


@cache
def build_containerd() -> Path:
    """Folder with ``containerd``, ``containerd-shim-runc-v2`` and ``ctr``; built if it is not cached."""

    def build(folder: Path) -> None:
        stamp = f"-s -w -X {_CONTAINERD}/version.Version=v{CONTAINERD_VERSION}"
        environment = {"CGO_ENABLED": "0", "GOBIN": str(folder)}
        for tags, commands in _CONTAINERD_COMMANDS.items():
            argv = ["go", "install", "-trimpath", "-tags", tags, "-ldflags", stamp]
            argv += [f"{_CONTAINERD}/cmd/{name}@v{CONTAINERD_VERSION}" for name in commands]
            run(argv, cwd=folder, env=environment, log=log_path("containerd"), timeout=Timeout.GO_BUILD.seconds)

    inputs = {"version": CONTAINERD_VERSION, "tags": " ".join(_CONTAINERD_COMMANDS)}
    return cached("containerd", inputs, build, what=f"build containerd {CONTAINERD_VERSION} (about 2 minutes, once)")


@cache
def build_helm() -> Path:
    """Folder with ``helm``; built if it is not cached. Versions and checksums are pinned by ``data/helm``."""
    version = helm_version()

    def build(folder: Path) -> None:
        stamp = f"-s -w -X {_HELM}/internal/version.version={version}"
        argv = ["go", "build", "-trimpath", "-ldflags", stamp, "-o", str(folder / "helm"), f"{_HELM}/cmd/helm"]
        environment = {"CGO_ENABLED": "0"}
        run(argv, cwd=_HELM_SOURCE, env=environment, log=log_path("helm"), timeout=Timeout.GO_BUILD.seconds)

    inputs: dict[str, Input] = {"modules": [_HELM_SOURCE / "go.mod", _HELM_SOURCE / "go.sum"]}
    return cached("helm", inputs, build, what=f"build Helm {version} (minutes, once)")
