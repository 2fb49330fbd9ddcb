"""Commands on nodes with the ssh client."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_command import fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import ssh
from mock_device.lab.cluster.cluster import NodeAccess

NODE = NodeAccess("node1", "127.0.0.1", 2201, "root", Path("/pki/id_ed25519"), Path("/pki/known_hosts"))


def test_only_keys_and_host_keys_of_the_cluster_are_used() -> None:
    argv = ssh.argv(NODE)
    options = {argv[place + 1] for place, word in enumerate(argv) if word == "-o"}
    assert argv[:5] == ["ssh", "-F", "none", "-p", "2201"]
    assert argv[-1] == "root@127.0.0.1"
    assert {
        "IdentityFile=/pki/id_ed25519",
        "IdentitiesOnly=yes",
        "UserKnownHostsFile=/pki/known_hosts",
        "StrictHostKeyChecking=yes",
    } <= options


def test_arguments_of_a_command_are_quoted() -> None:
    assert ssh.argv(NODE, ["sh", "-c", "echo $HOME 'x y'"])[-1] == """sh -c 'echo $HOME '"'"'x y'"'"''"""


def test_command_reads_a_file_and_its_output_is_returned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = fake_command(monkeypatch, tmp_path, "ssh", ["print(sys.stdin.read().upper())"])
    (tmp_path / "input").write_text("said")
    assert ssh.on_node(NODE, ["cat"], timeout=20, stdin=tmp_path / "input") == "SAID\n"
    assert command.calls[0]["argv"][-1] == "cat"


def test_failure_has_the_output_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(monkeypatch, tmp_path, "ssh", ["print('no route', file=sys.stderr)", "sys.exit(255)"])
    with pytest.raises(StepError, match="ended with 255: no route"):
        ssh.on_node(NODE, ["true"], timeout=20)
