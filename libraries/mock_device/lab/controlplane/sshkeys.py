"""SSH keys of a cluster, in OpenSSH's formats: the user's key and the nodes' host keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mock_device.lab.base.files import write_file


@dataclass(frozen=True)
class SshKey:
    """An ed25519 key pair: ``private`` has mode 0600, ``public`` lies beside it as ``.pub``."""

    private: Path

    @property
    def public(self) -> Path:
        return self.private.with_name(f"{self.private.name}.pub")

    def public_line(self) -> str:
        """``ssh-ed25519 AAAA… comment``, as in an authorized_keys file (sshd(8)), without line end."""
        return self.public.read_text().strip()


@dataclass(frozen=True)
class SshKeys:
    """The SSH keys of a cluster."""

    directory: Path

    @property
    def user(self) -> SshKey:
        """The key that logs in as root on every node."""
        return SshKey(self.directory / "id_ed25519")

    def host(self, node: str) -> SshKey:
        """Host key of a node."""
        return SshKey(self.directory / f"ssh_host_ed25519_key-{node}")


def create_ssh_keys(directory: Path, nodes: Sequence[str]) -> SshKeys:
    """Create the user's key and a host key for each node in ``directory``; existing keys are replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = SshKeys(directory)
    _create(keys.user, "root@mock-device")
    for node in nodes:
        _create(keys.host(node), f"root@{node}")
    return keys


def known_hosts(entries: Iterable[tuple[str, int, SshKey]]) -> str:
    """Content of a known_hosts file (sshd(8)) for ``(address, port, host key)`` of each node."""
    lines = []
    for address, port, key in entries:
        name = address if port == 22 else f"[{address}]:{port}"
        lines.append(f"{name} {' '.join(key.public_line().split()[:2])}\n")
    return "".join(lines)


def _create(key: SshKey, comment: str) -> None:
    pair = Ed25519PrivateKey.generate()
    write_file(key.private, pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
    public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_file(key.public, f"{public.decode()} {comment}\n")
