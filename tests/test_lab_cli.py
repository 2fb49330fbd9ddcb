"""Arguments of the command line of the lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lab import cli, client
from lab.client import DEFAULT_NAME


@pytest.mark.parametrize(
    ("argv", "name", "rest"),
    [
        (["kubectl", "-n", "kube-system", "get", "pods"], DEFAULT_NAME, ["-n", "kube-system", "get", "pods"]),
        (["kubectl", "--name", "other", "-A", "get"], "other", ["-A", "get"]),
        (["kubectl", "--name=other", "exec", "p", "--", "ls", "-l"], "other", ["exec", "p", "--", "ls", "-l"]),
        (["kubectl"], DEFAULT_NAME, []),
    ],
)
def test_kubectl_gets_all_that_follows(
    argv: list[str], name: str, rest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, list[str]]] = []

    class Cluster:
        kubeconfig = "kubeconfig"

    def attach(name: str, _: str) -> Cluster:
        found.append((name, []))
        return Cluster()

    def run(command: list[str], **_: object) -> object:
        found[-1][1].extend(command[1:])
        return type("Ended", (), {"returncode": 7})

    monkeypatch.setattr(client, "attach", attach)
    monkeypatch.setattr(cli, "build_embedded_k8s", lambda: Path("/bin"))
    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(argv) == 7
    assert found == [(name, rest)]
