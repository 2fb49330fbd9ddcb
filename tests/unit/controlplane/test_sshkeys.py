"""SSH keys of a cluster, as OpenSSH reads them."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from mock_device.lab.controlplane.sshkeys import create_ssh_keys, known_hosts


def test_openssh_accepts_the_ssh_keys(tmp_path: Path) -> None:
    keys = create_ssh_keys(tmp_path / "ssh", ["node1", "node2"])
    for key in (keys.user, keys.host("node1"), keys.host("node2")):
        assert stat.S_IMODE(key.private.stat().st_mode) == 0o600
        # ssh-keygen derives the public key from the private one.
        derived = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(key.private)], capture_output=True, text=True, timeout=10, check=True
        ).stdout
        assert derived.split()[:2] == key.public_line().split()[:2]


def test_known_hosts_names_each_forwarded_port(tmp_path: Path) -> None:
    keys = create_ssh_keys(tmp_path / "ssh", ["node1", "node2"])
    hosts = tmp_path / "known_hosts"
    hosts.write_text(known_hosts([("127.0.0.1", 2201, keys.host("node1")), ("127.0.0.1", 22, keys.host("node2"))]))
    for name, node in (("[127.0.0.1]:2201", "node1"), ("127.0.0.1", "node2")):
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", str(hosts)], capture_output=True, text=True, timeout=10, check=True
        ).stdout
        assert keys.host(node).public_line().split()[1] in found


def test_keys_are_replaced(tmp_path: Path) -> None:
    before = create_ssh_keys(tmp_path, ["node1"]).host("node1").public_line()
    after = create_ssh_keys(tmp_path, ["node1"]).host("node1").public_line()
    assert before != after
    assert after.endswith(" root@node1")
