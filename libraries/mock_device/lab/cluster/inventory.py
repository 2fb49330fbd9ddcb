"""A cluster that exists, as its profile describes it: kubeconfig, nodes with SSH, what to install."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import topology_path
from mock_device.lab.cluster import profile
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.loader_settings import KmmSettings, kmm_settings
from mock_device.lab.cluster.ssh import JumpHost

KIND = "external"
DISCOVERED = "discovered"
_SSH: Mapping[str, Any] = {
    "user": "root",
    "port": 22,
    "key": "~/.ssh/id_ed25519",
    "known-hosts": "~/.ssh/known_hosts",
    "sudo": False,
}
_NAMESPACE = "mock-device-tests"


@dataclass(frozen=True)
class Inventory:
    """What a profile of kind ``external`` says."""

    path: Path
    """The profile."""
    kubeconfig: Path
    context: str
    """Context of the kubeconfig; empty for its current one."""
    nodes: tuple[NodeAccess, ...]
    module: str
    """What loads the kernel module: ``pod``, ``kmm``, or ``none`` of what the lab installs."""
    driver: str
    """How the driver is installed: ``manifests``, ``helm``, or ``none`` if the cluster has it."""
    namespace: str
    """Namespace of everything that tests make."""
    topology: Path | None
    """The declared topology; None if it is discovered."""
    kmm: KmmSettings
    """Files of KMM, for clusters without it."""
    timeout_factor: float
    """Factor of all time-outs, unless the environment names one (``lab.base.timeouts``)."""

    @property
    def node_names(self) -> list[str]:
        return [node.name for node in self.nodes]

    def node(self, name: str) -> NodeAccess:
        """How to reach node ``name``. Raises KeyError with the names of all nodes."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r} in {self.path}; it has {', '.join(self.node_names)}")


def load(name: str) -> Inventory:
    """Read the profile ``name``: a name in ``variables``, or a path. Raises StepError with file and reason."""
    path, fields = profile.read(name)
    return _parse(path, fields)


def load_copy(copy: Path, origin: Path) -> Inventory:
    """Read ``copy``, a copy of the profile ``origin``, to which its paths are relative. Raises StepError."""
    return _parse(origin, profile.read_keys(copy))


def _parse(path: Path, fields: Mapping[str, Any]) -> Inventory:
    if fields["kind"] != KIND:
        raise StepError(f"{path}: expected kind {KIND}, found {fields['kind']}, which starts clusters: lab up")
    names = [node["name"] for node in fields["nodes"]]
    if twice := sorted({node for node in names if names.count(node) > 1}):
        raise StepError(f"{path}: nodes: {', '.join(twice)} stands there more than once")
    install = fields.get("install", {})
    topology = fields.get("topology", DISCOVERED)
    return Inventory(
        path=path,
        kubeconfig=_file(path, fields["kubeconfig"]),
        context=fields.get("context", ""),
        nodes=tuple(_node(path, {**_SSH, **fields.get("ssh", {}), **node}) for node in fields["nodes"]),
        module=install.get("module", "pod"),
        driver=install.get("driver", "manifests"),
        namespace=fields.get("namespace", _NAMESPACE),
        topology=None if topology == DISCOVERED else _topology(path, topology),
        kmm=kmm_settings(fields.get("kmm") or {}).relative_to(path.parent),
        timeout_factor=profile.timeout_factor(fields),
    )


def _node(path: Path, fields: Mapping[str, Any]) -> NodeAccess:
    return NodeAccess(
        name=fields["name"],
        host=fields.get("host", fields["name"]),
        port=fields["port"],
        user=fields["user"],
        key_file=_file(path, fields["key"]),
        known_hosts=_file(path, fields["known-hosts"]),
        jump=_jump(path, {**fields, "port": _SSH["port"], **fields["jump"]}) if "jump" in fields else None,
        sudo=fields["sudo"],
    )


def _jump(path: Path, fields: Mapping[str, Any]) -> JumpHost:
    return JumpHost(
        host=fields["host"],
        port=fields["port"],
        user=fields["user"],
        key_file=_file(path, fields["key"]),
        known_hosts=_file(path, fields["known-hosts"]),
    )


def _file(profile_path: Path, name: str) -> Path:
    """The file ``name``, relative to the profile."""
    return (profile_path.parent / Path(name).expanduser()).absolute()


def _topology(profile_path: Path, name: str) -> Path:
    is_file = Path(name).suffix in {".yaml", ".yml"}
    return topology_path(str(_file(profile_path, name)) if is_file else name)
