"""A node image of k3s's layout, made from the node image: k3s and its units instead of containerd's and the kubelet's.

The files are written into a copy of the disk by debugfs(8), which needs no mount and no root.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.defaults import DEFAULT_KUBERNETES
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.paths import log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build.images import build_base_images
from mock_device.lab.build.node_image import NodeImage, build_node_image
from mock_device.lab.build.store import Input, cached

BINARY_VARIABLE = "K3S_BINARY"
DATA = Path(__file__).parent / "data" / "k3s"
_PROGRAM = "/usr/local/bin/k3s"
_AGENT = "/var/lib/rancher/k3s/agent"
_UNITS = "/etc/systemd/system"
_WANTED = f"{_UNITS}/multi-user.target.wants"
_REMOVED_UNITS = ("containerd", "kubelet", "kube-proxy")
_REMOVED = (
    "/etc/containerd/config.toml",
    "/etc/kubernetes/kubelet.yaml",
    "/etc/kubernetes/kube-proxy.yaml",
    "/usr/local/bin/kubelet",
    "/usr/local/bin/kube-proxy",
)
# k3s has these in itself.
_REMOVED_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "embedded-k8s")
_RELEASE = "https://github.com/k3s-io/k3s/releases/download/{version}/k3s"
_CHUNK_BYTES = 1 << 20
_ELF = b"\x7fELF"


class NoBinaryError(StepError):
    """The user has named no binary of k3s, or one that is gone."""


def find_binary(binary: str, version: str, sha256: str) -> Path:
    """The user's binary of k3s: the path ``binary``, else that of ``K3S_BINARY``, else ``version``, downloaded.

    Raises StepError.
    """
    named = binary or os.environ.get(BINARY_VARIABLE, "")
    if not named and version:
        return _downloaded(version, sha256)
    if not named:
        raise NoBinaryError(
            f"no binary of k3s: set {BINARY_VARIABLE}=/path/to/k3s, or `binary`, or `version` and `sha256` in the "
            "profile; to try a control plane on a node without k3s: --profile control-plane-on-node"
        )
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        where = "binary" if binary else BINARY_VARIABLE
        raise NoBinaryError(f"{where}: expected the program k3s, found no file {path}")
    with path.open("rb") as file:
        if (found := file.read(len(_ELF))) != _ELF:
            raise StepError(f"{path}: expected a program (ELF), found a file that begins with {found!r}")
    if sha256:
        _check(path, sha256)
    return path


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise StepError(f"{path}: expected sha256 {sha256}, found {found}")


def _downloaded(version: str, sha256: str) -> Path:
    """The binary of a release for this machine's architecture, x86-64. Not verified: it needs internet access."""
    url = _RELEASE.format(version=version.replace("+", "%2B"))

    def build(folder: Path) -> None:
        binary = folder / "k3s"
        try:
            with urllib.request.urlopen(url, timeout=Timeout.K3S_DOWNLOAD.seconds) as answer, binary.open("wb") as file:
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
        except OSError as error:
            raise StepError(f"{url}: {error}; download it yourself and set {BINARY_VARIABLE}") from error
        _check(binary, sha256)

    return cached("k3s", {"version": version, "sha256": sha256}, build, what=f"download of k3s {version}") / "k3s"


def _write(source: Path, target: str, mode: int) -> Iterator[str]:
    yield f'write "{source}" {target}'
    yield f"set_inode_field {target} mode 0{0o100000 | mode:o}"
    for owner in ("uid", "gid"):
        yield f"set_inode_field {target} {owner} 0"


def debugfs_script(binary: Path | None, archives: Sequence[Path]) -> str:
    """Commands of debugfs(8) that turn the file system of a node image into one of k3s's layout.

    ``archives`` are container images, which k3s imports at its start. The stand-in (``binary`` is None) uses
    the programs and the image store of the node image.
    """
    lines = [f"rm {path}" for path in _REMOVED]
    lines += [f"rm {_WANTED}/{unit}.service" for unit in _REMOVED_UNITS]
    lines += [f"rm {_UNITS}/{unit}.service" for unit in (*_REMOVED_UNITS, "kubens")]
    for unit in ("k3s", "k3s-agent"):
        lines += _write(DATA / f"{unit}.service", f"{_UNITS}/{unit}.service", 0o644)
        lines.append(f"mkdir {_UNITS}/{unit}.service.d")
        lines += _write(DATA / f"{unit}.conf", f"{_UNITS}/{unit}.service.d/lab.conf", 0o644)
        lines.append(f"symlink {_WANTED}/{unit}.service {_UNITS}/{unit}.service")
    # Without flannel, containerd looks for CNI plugins in its default folder.
    lines += ["mkdir /opt/cni", "symlink /opt/cni/bin /usr/lib/cni"]
    lines += [f"mkdir {folder}" for folder in ("/var/lib/rancher", "/var/lib/rancher/k3s", _AGENT)]
    if binary is None:
        lines += [f"symlink {_PROGRAM} embedded-k8s", f"symlink {_AGENT}/containerd /var/lib/containerd"]
    else:
        lines += [f"rm /usr/local/bin/{program}" for program in _REMOVED_PROGRAMS]
        lines += _write(binary, _PROGRAM, 0o755)
        lines.append(f"mkdir {_AGENT}/images")
        for number, archive in enumerate(archives, 1):
            lines += _write(archive, f"{_AGENT}/images/{number}-{archive.name}", 0o644)
    return "\n".join(lines) + "\n"


def complaints(log: str) -> list[str]:
    """What debugfs reported; it ends with 0 also after errors. It prints its version, each command and each new inode.

    ``log`` has the command lines, too, which begin with ``$``. A folder may exist already.
    """
    lines = map(str.strip, log.splitlines())
    said = [line for line in lines if line and not line.startswith(("$ ", "debugfs", "Allocated inode:"))]
    return [line for line in said if "Ext2 directory already exists" not in line]


def k3s_image(binary: Path | None, version: KubernetesVersion = DEFAULT_KUBERNETES) -> NodeImage:
    """The node image with ``binary`` as k3s, or with the stand-in for ``version``; built if it is not cached.

    Raises StepError.
    """
    image = build_node_image(version)
    archives = build_base_images()

    def build(folder: Path) -> None:
        log = log_path("k3s-image")
        disk, script = folder / "disk.raw", folder / "files.debugfs"
        run(["cp", "--sparse=always", image.disk, disk], log=log, timeout=Timeout.K3S_DISK.seconds)
        disk.chmod(0o600)
        write_file(script, debugfs_script(binary, archives))
        run(["debugfs", "-w", "-f", script, disk], log=log, timeout=Timeout.K3S_DISK.seconds)
        if wrong := complaints(log.read_text(errors="replace")):
            raise StepError(f"debugfs could not write the files of k3s: {'; '.join(wrong[:3])}", log)
        disk.chmod(0o444)

    inputs: dict[str, Input] = {
        "source": Path(__file__),
        "files": DATA,
        "image": str(image.disk),
        "binary": binary or "stand-in",
        "images": [str(archive) for archive in archives] if binary else [],
    }
    folder = cached("k3s-image", inputs, build, what=f"node image with {binary or 'a control plane on a node'}")
    return replace(image, disk=folder / "disk.raw")
