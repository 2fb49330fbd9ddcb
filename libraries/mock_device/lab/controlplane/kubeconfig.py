"""Kubeconfig files with embedded certificates and key: a client needs no other file."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from mock_device.lab.base.files import write_file
from mock_device.lab.controlplane.pki import Identity


def kubeconfig(identity: Identity, server: str, cluster: str = "mock-device") -> str:
    """Content of a kubeconfig for ``identity`` at ``server`` (URL of the API server)."""
    user = identity.name
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": _data(identity.ca)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _data(identity.certificate),
                    "client-key-data": _data(identity.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    return yaml.safe_dump(content, sort_keys=False)


def write_kubeconfig(path: Path, identity: Identity, server: str, cluster: str = "mock-device") -> Path:
    """Write the kubeconfig of ``identity``, readable by its owner only, and return ``path``."""
    write_file(path, kubeconfig(identity, server, cluster), 0o600)
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
