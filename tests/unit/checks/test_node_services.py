"""Kubelet and containerd of a node, with an API server that serves the kubelet's answers over real HTTP."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from dra_fakes.answers import api_server, listing
from support.runtimes import RUNTIME

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import node_services
from mock_device.checks.nodes.session import Command

PODS = "/api/v1/pods"
PROXY = "/api/v1/nodes/node1/proxy/"
POD = {"metadata": {"name": "web", "uid": "u1"}}


def session(api: Any, commands: list[str]) -> Any:
    def on_node(_: str, command: Command, timeout: float | None = None) -> None:
        commands.append(command if isinstance(command, str) else command(RUNTIME))

    return SimpleNamespace(api=api, on_node=on_node, runtime=lambda _: RUNTIME)


@pytest.mark.parametrize(
    ("restart", "path", "command"),
    [
        (node_services.restart_kubelet, "pods", "systemctl restart kubelet.service"),
        (node_services.restart_containerd, "runningpods/", RUNTIME.restart),
    ],
)
def test_restart_ends_when_the_kubelet_lists_the_pods_of_the_node(
    restart: Callable[..., None], path: str, command: str
) -> None:
    commands: list[str] = []
    with api_server({PODS: listing(POD), f"{PROXY}{quote(path, safe='')}": (200, {"items": [POD]})}) as api:
        restart(session(api, commands), "node1", timedelta(seconds=5))
    assert commands == [command]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {"items": None}), "expected pod web in /pods"),
        ((503, {"message": "dial tcp: connection refused"}), "503: dial tcp: connection refused"),
    ],
)
def test_kubelet_that_lists_too_little_or_does_not_answer_is_an_error(answer: Any, reason: str) -> None:
    with (
        api_server({PODS: listing(POD), f"{PROXY}pods": answer}) as api,
        pytest.raises(CheckError, match=f"kubelet of node1 after 0 s:\n{re.escape(reason)}"),
    ):
        node_services.restart_kubelet(session(api, []), "node1", timedelta(0))


@pytest.mark.parametrize("place", ["config.toml", "conf.d/default-runtime.toml"])
def test_default_runtime_is_set_in_containerds_configuration(tmp_path: Path, place: str) -> None:
    (tmp_path / "config.toml").write_text("version = 3\n")
    config = tmp_path / place
    config.parent.mkdir(exist_ok=True)
    config.write_text('version = 3\n  default_runtime_name = "crun"\n')
    commands: list[str] = []
    node_services.set_default_runtime(session(None, commands), "node1", "runc")
    (command,) = commands
    edit = command.replace(str(Path(RUNTIME.config).parent), str(tmp_path)).replace(RUNTIME.restart, "true")
    subprocess.run(["sh", "-c", edit], check=True)
    assert config.read_text() == 'version = 3\n  default_runtime_name = "runc"\n'
