"""Files of a cluster: the supervisor's specification, the clients' access data, and all paths."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from mock_device import topology as topologies
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import cache_root
from mock_device.lab.base.typed_json import read_typed
from mock_device.topology import Topology, TopologyError

NO_INTERNET = -1
"""``ClusterSpec.internet_fd`` of a cluster without a way out."""


@dataclass(frozen=True)
class QemuSpec:
    """How to run QEMU."""

    argv: list[str]
    """The command, and the options that must precede those of the machine."""
    env: dict[str, str]
    accelerator: str
    """``kvm`` or ``tcg``."""
    nested: bool = False
    """Whether guests have the CPU's features for running guests themselves, with ``kvm``."""


@dataclass(frozen=True)
class ImageSpec:
    """What a guest boots from."""

    disk: str
    disk_format: str
    kernel: str
    initrd: str


@dataclass(frozen=True)
class K3sSpec:
    """Settings of ``k3s server`` on the first node and of ``k3s agent`` on the others.

    A key is a flag without dashes, as in k3s's config.yaml; a list repeats the flag.
    """

    server: dict[str, list[str]]
    """Flags of the server only."""
    nodes: dict[str, list[str]]
    """Flags of server and agents."""


@dataclass(frozen=True)
class ClusterSpec:
    """Where a cluster's files are, and what the cluster consists of."""

    name: str
    topology: str
    """The user's topology file, which may change while the cluster runs; ``load_topology`` reads the cluster's copy."""
    directory: str
    qemu: QemuSpec
    qemu_img: list[str]
    image: ImageSpec
    binaries: str
    """Folder of the embedded Kubernetes."""
    feature_gates: str
    """Value of ``--feature-gates`` for every component and the kubelets."""
    runtime_config: str
    """Value of ``--runtime-config`` for the API server."""
    default_runtime: str
    """OCI runtime of containers whose pods name no RuntimeClass."""
    kubelet_config: str
    """KubeletConfiguration of the profile, YAML: a drop-in on every node."""
    k3s: K3sSpec | None
    """Settings of a cluster whose control plane runs on its first node; None if it runs on this machine."""
    golden: str
    """Folder of the golden cluster from which this one is restored; empty if it boots."""
    control_fd: int
    """Listening abstract Unix socket in the host's network namespace."""
    api_fd: int
    """Listening TCP socket, forwarded to the API server."""
    ssh_fds: dict[str, int]
    """Listening TCP socket per node, forwarded to the node's SSH port."""
    registry: str
    """Program of the cluster's registry."""
    registry_fd: int
    """Listening TCP socket, forwarded to the registry."""
    internet_fd: int
    """Socket of passt(1), through which guests reach the outside; ``NO_INTERNET`` if they do not."""
    timeout_factor: float
    """The profile's factor of all time-outs (``lab.base.timeouts``)."""

    @property
    def internet(self) -> bool:
        """Whether guests reach the outside."""
        return self.internet_fd != NO_INTERNET

    @property
    def paths(self) -> ClusterPaths:
        return ClusterPaths(Path(self.directory))

    def load_topology(self) -> Topology:
        """The topology with which the cluster was started, named after the user's file. Raises DamagedFileError."""
        try:
            return topologies.load(self.paths.topology, origin=Path(self.topology))
        except TopologyError as error:
            reason = f"expected the topology with which the cluster was started: {error}"
            raise DamagedFileError(self.paths.topology, reason) from error

    def save(self, path: Path) -> None:
        write_file(path, json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(path: Path) -> ClusterSpec:
        """Read ``spec.json``. Raises DamagedFileError."""
        return _of_cluster(ClusterSpec, path)


@dataclass(frozen=True)
class Access:
    """How a cluster's clients reach it, on this machine's loopback."""

    api_port: int
    """TCP port of the API server."""
    ssh_ports: dict[str, int]
    """TCP port of each node's SSH server."""
    registry_port: int
    """TCP port of the registry."""

    def save(self, path: Path) -> None:
        write_file(path, json.dumps(asdict(self)))

    @staticmethod
    def load(path: Path) -> Access:
        """Read ``access.json``. Raises DamagedFileError."""
        return _of_cluster(Access, path)


class DamagedFileError(StepError):
    """A file of a cluster cannot be used; the cluster must be stopped."""

    def __init__(self, path: Path, reason: str) -> None:
        name = path.parent.name
        super().__init__(f"cluster {name!r}: {path} is damaged: {reason}; stop the cluster: lab down --name {name}")


T = TypeVar("T")


def _of_cluster(kind: type[T], path: Path) -> T:
    try:
        return read_typed(kind, path)
    except (OSError, ValueError) as error:
        raise DamagedFileError(path, str(error)) from error


@dataclass(frozen=True)
class ClusterPaths:
    """Files of a cluster."""

    root: Path

    @staticmethod
    def of(name: str) -> ClusterPaths:
        return ClusterPaths(cache_root() / "clusters" / name)

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def topology(self) -> Path:
        """Copy of the topology file, made when the cluster was started."""
        return self.root / "topology.yaml"

    @property
    def drivers(self) -> Path:
        """Which drivers the cluster has (JSON): ``lab.cluster.drivers``."""
        return self.root / "drivers.json"

    @property
    def access(self) -> Path:
        """How to reach the cluster, for its clients (JSON)."""
        return self.root / "access.json"

    @property
    def lock(self) -> Path:
        """Lock file, held by the process that starts or runs the cluster."""
        return self.root.with_name(f"{self.root.name}.lock")

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def device_key(self) -> Path:
        """Secret with which the cluster's devices sign nonces (vfio-user/DATASHEET.md, IDENTIFY), mode 0600."""
        return self.root / "device-key"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def data(self) -> Path:
        """Disks and etcd's data; removed when the cluster ends."""
        return self.root / "data"

    @property
    def passt_log(self) -> Path:
        """Log of passt(1), which runs outside the cluster's namespaces."""
        return self.logs / "passt.log"

    @property
    def sockets(self) -> Path:
        """Mount point of the tmpfs for sockets, which only the supervisor's mount namespace sees."""
        return self.root / "sockets"


def socket_prefix() -> str:
    """Prefix of this cache's abstract Unix sockets: a hash of its path, which may be longer than a socket's name."""
    return f"mock-device/{hashlib.sha256(os.fsencode(cache_root())).hexdigest()[:16]}"


def control_address(name: str) -> str:
    """Abstract Unix socket of a cluster's supervisor; it leaves no file behind, however the supervisor ends."""
    return f"\0{socket_prefix()}/{name}"
