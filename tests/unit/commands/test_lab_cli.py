"""The ``lab`` command: arguments, exit codes, errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException
from support.fake_supervisor import SPEC, FakeSupervisor
from support.topologies import CLUSTER
from urllib3.exceptions import HTTPError

from mock_device.commands import cli, overview
from mock_device.lab.base.defaults import DEFAULT_NAME
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.spec import Access, ClusterPaths
from mock_device.lab.build import gobuild
from mock_device.lab.cluster import client
from mock_device.topology import TopologyError

TIMEOUT = 60.0


@pytest.mark.parametrize(
    ("argv", "name", "rest"),
    [
        (["kubectl", "-n", "kube-system", "get", "pods"], DEFAULT_NAME, ["-n", "kube-system", "get", "pods"]),
        (["kubectl", "--name", "other", "-A", "get"], "other", ["-A", "get"]),
        (["kubectl", "--name=other", "exec", "p", "--", "ls", "-l"], "other", ["exec", "p", "--", "ls", "-l"]),
        (["kubectl", "-nhome", "get"], DEFAULT_NAME, ["-nhome", "get"]),
        (["kubectl", "get", "--name", "x", "-h"], DEFAULT_NAME, ["get", "--name", "x", "-h"]),
        (["kubectl"], DEFAULT_NAME, []),
        (["helm", "--name", "other", "--namespace", "x", "list"], "other", ["--namespace", "x", "list"]),
        (
            ["helm", "upgrade", "--set=a=b", "mock-device", "."],
            DEFAULT_NAME,
            ["upgrade", "--set=a=b", "mock-device", "."],
        ),
    ],
)
def test_kubectl_and_helm_get_all_following_words(
    argv: list[str], name: str, rest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, list[str]]] = []

    class Cluster:
        kubeconfig = "kubeconfig"
        kubernetes = None

    def attach(name: str, _: str) -> Cluster:
        found.append((name, []))
        return Cluster()

    def run(command: list[str], **_: object) -> object:
        found[-1][1].extend(command[1:])
        return type("Ended", (), {"returncode": 7})

    monkeypatch.setattr(client, "attach", attach)
    monkeypatch.setattr(gobuild, "build_embedded_k8s", lambda _: Path("/bin"))
    monkeypatch.setenv("HELM", "/bin/helm")
    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(argv) == 7
    assert found == [(name, rest)]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ExitStack() as stack:
        yield stack


def running(stack: ExitStack, name: str = "some", **status: Any) -> ClusterPaths:
    """A cluster with a fake supervisor and valid files."""
    stack.callback(FakeSupervisor(name, **status).end)
    paths = ClusterPaths.of(name)
    paths.root.mkdir(parents=True)
    replace(SPEC, name=name, topology=str(CLUSTER.path), directory=str(paths.root)).save(paths.spec)
    paths.topology.write_text(CLUSTER.text)
    Access(6443, {node.name: 2222 for node in CLUSTER.nodes}, 5001).save(paths.access)
    return paths


def pipe_with(content: bytes, stack: ExitStack) -> str:
    """Path of an inheritable descriptor, as a shell makes it for ``<(…)``."""
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    os.set_inheritable(reading, True)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)

    threading.Thread(target=write, daemon=True).start()
    return f"/dev/fd/{reading}"


def test_kubectl_gets_descriptors_of_the_shell(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    running(stack)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\n[ -n "$KUBECONFIG" ] && cat "$3"\n')
    kubectl.chmod(0o755)
    monkeypatch.setattr(gobuild, "build_embedded_k8s", lambda _: tmp_path)
    assert cli.main(["kubectl", "--name", "some", "apply", "-f", pipe_with(b"kind: Pod\n", stack)]) == 0
    assert capfd.readouterr().out == "kind: Pod\n"


def test_ssh_gets_descriptors_of_the_shell(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    running(stack)
    path = pipe_with(b"from the shell\n", stack)
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ncat {path}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cli.main(["ssh", "--name", "some", CLUSTER.nodes[0].name, "true"]) == 0
    assert capfd.readouterr().out == "from the shell\n"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            {"state": "starting", "step": "guests"},
            "cluster 'some' is starting (at the step: guests); wait until it runs, see: lab clusters",
        ),
        ({"state": "starting"}, "cluster 'some' is starting; wait until it runs, see: lab clusters"),
        (
            {"state": "failed", "reason": "etcd ended"},
            "cluster 'some' is failed: etcd ended; start it again: lab down --name some && lab up --name some",
        ),
        ({"state": "stopping"}, "cluster 'some' is stopping, it ends in a moment; start it again: lab up --name some"),
    ],
)
def test_missing_cluster_is_an_error(
    stack: ExitStack, status: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running(stack, **status)
    assert cli.main(["kubectl", "--name", "some", "get", "pods"]) == 1
    assert capsys.readouterr().err == f"lab: {message}\n"


COMMANDS = [["status"], ["kubectl", "get"], ["ssh", "node1"], ["diagnose"], ["devices"], ["kubeconfig"], ["deploy"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize("file", ["spec.json", "topology.yaml", "access.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"qemu": 7}', '{"ssh_ports": {"node1": 22}, "api_port": 1}'])
def test_damaged_file_of_a_cluster_is_one_line_with_the_remedy(
    stack: ExitStack, command: list[str], file: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = running(stack)
    (paths.root / file).write_text(content)
    name, *rest = command
    assert cli.main([name, "--name", "some", *rest]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lab: cluster 'some': {paths.root / file} is damaged: expected ")
    assert line.endswith("; stop the cluster: lab down --name some")


def test_cluster_with_damaged_files_is_stopped(stack: ExitStack, capsys: pytest.CaptureFixture[str]) -> None:
    paths = running(stack)
    paths.spec.write_text("")
    paths.access.write_text("")
    assert cli.main(["down", "--name", "some"]) == 0
    assert capsys.readouterr().out == "some\tstopped\n"


@pytest.mark.parametrize(
    "content", ["", "[]", "clusters: 7", "{", "clusters: [{cluster: {certificate-authority-data: 1}}]"]
)
def test_damaged_kubeconfig_is_reported(stack: ExitStack, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = running(stack)
    paths.kubeconfig.write_text(content)
    assert cli.main(["status", "--name", "some"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lab: cluster 'some': {paths.kubeconfig} is damaged: expected a kubeconfig")
    assert line.endswith("; stop the cluster: lab down --name some")


STATUS_OF_MANY = """
import sys
from types import SimpleNamespace
from mock_device.commands import cli
from mock_device.diagnosis import health
from mock_device.lab.base.tables import Note, Table
from mock_device.lab.cluster import client

client.attach = lambda *_: None
health.status_of = lambda _: SimpleNamespace(healthy=True)
health.tables = lambda _: [Table((), [Note(f"node{number}", "Ready")]) for number in range(5000)]
sys.exit(cli.main(["status"]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "mock_device.commands.cli", "--help"],
        ["-m", "mock_device.commands.cli", "clusters"],
        ["-m", "mock_device.commands.cli", "clusters", "--json"],
        ["-m", "mock_device.commands.cli", "status", "--watch"],
        ["-c", STATUS_OF_MANY],
        ["-m", "mock_device.acceptance.cli", "--help"],
        ["-m", "mock_device.acceptance.nightly", "--help"],
        ["-m", "mock_device.acceptance.all_tests", "--help"],
        ["-m", "mock_device.lab.build.kbuild", "--help"],
    ],
    ids=lambda words: " ".join(words)[:60].replace("\n", ""),
)
@pytest.mark.parametrize(("read", "unbuffered"), [(False, ""), (True, "1")], ids=["no-reader", "reader-of-a-line"])
def test_closed_output_is_no_error(words: list[str], read: bool, unbuffered: str) -> None:
    reading, writing = os.pipe()
    if not read:
        os.close(reading)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = subprocess.Popen([sys.executable, *words], stdout=writing, stderr=subprocess.PIPE, env=environment)
    os.close(writing)
    if read:
        with open(reading, "rb") as lines:  # noqa: PTH123
            assert lines.readline()
    _, errors = command.communicate(timeout=TIMEOUT)
    assert (errors, command.returncode) == (b"", 0)


def test_pipe_to_something_else_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> None:
        raise BrokenPipeError("a pipe to something else")

    monkeypatch.setattr(overview, "look", breaks)
    with (
        open(os.devnull, "w") as stdout,  # noqa: PTH123
        monkeypatch.context() as patched,
        pytest.raises(BrokenPipeError, match="something else"),
    ):
        patched.setattr(sys, "stdout", stdout)
        cli.main(["clusters"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StepError("no QEMU", Path("/logs/qemu.log")), "no QEMU\n  log: /logs/qemu.log"),
        (TopologyError("t.yaml:3: no nodes"), "t.yaml:3: no nodes"),
        (KeyError("no node 'x'; there are a, b"), "no node 'x'; there are a, b"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the disk is full, see: lab cache\n  [Errno 28] No space left on device",
        ),
        (HTTPError("timed out"), "the cluster's API server does not answer, see: lab status\n  timed out"),
        (ApiException(403, "Forbidden"), "the cluster's API server says 403: Forbidden"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_say_what_to_look_at(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(overview, "look", fails)
    assert cli.main(["clusters"]) == 1
    assert capsys.readouterr().err == f"lab: {message}\n"


def test_interrupted_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(overview, "look", interrupted)
    assert cli.main(["clusters"]) == 130
    assert capsys.readouterr().err == "lab: interrupted; what was started for this command is stopped\n"


def test_other_errors_of_files_are_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise PermissionError("odd")

    monkeypatch.setattr(overview, "look", fails)
    with pytest.raises(PermissionError, match="odd"):
        cli.main(["clusters"])


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", ["kubectl", "helm"])
def test_help_of_kubectl_and_helm_is_that_of_lab(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, option]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: lab {command} [OPTIONS] [ARGUMENT]...\n")
