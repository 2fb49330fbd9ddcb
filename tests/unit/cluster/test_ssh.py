"""Commands on nodes with the ssh client."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_command import fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import ssh
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.cluster.ssh import JumpHost

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


def test_node_behind_a_jump_host_is_reached_with_the_jump_hosts_key_and_known_hosts() -> None:
    jump = JumpHost("gate.example.com", 2222, "guest", Path("/keys/100% gate"), Path("/keys/gate_hosts"))
    (proxy,) = (word for word in ssh.argv(replace(NODE, jump=jump)) if word.startswith("ProxyCommand="))
    words = shlex.split(proxy.removeprefix("ProxyCommand=").replace("%%", "%"))
    assert words[:5] == ["ssh", "-F", "none", "-p", "2222"]
    assert {"IdentityFile=/keys/100% gate", "UserKnownHostsFile=/keys/gate_hosts", "StrictHostKeyChecking=yes"} <= {
        *words
    }
    assert "100%% gate" in proxy, "ssh replaces a single percent sign"
    assert words[-3:] == ["-W", "[%h]:%p", "guest@gate.example.com"]


def test_sudo_runs_commands_and_shells_as_root() -> None:
    node = replace(NODE, user="admin", sudo=True)
    assert ssh.argv(node, ["sh", "-c", "id -u"])[-2:] == ["admin@127.0.0.1", "sudo -n sh -c 'id -u'"]
    assert ssh.argv(node)[-3:] == ["-t", "admin@127.0.0.1", "sudo -n -i"]


def test_command_reads_a_file_and_its_output_is_returned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = fake_command(monkeypatch, tmp_path, "ssh", ["print(sys.stdin.read().upper())"])
    (tmp_path / "input").write_text("said")
    assert ssh.on_node(NODE, ["cat"], timeout=20, stdin=tmp_path / "input") == "SAID\n"
    assert command.calls[0]["argv"][-1] == "cat"


def test_failure_has_the_output_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(monkeypatch, tmp_path, "ssh", ["print('no route', file=sys.stderr)", "sys.exit(255)"])
    with pytest.raises(StepError, match="ended with 255: no route"):
        ssh.on_node(NODE, ["true"], timeout=20)
