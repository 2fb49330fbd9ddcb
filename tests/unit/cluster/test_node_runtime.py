"""Where a node has its container runtime and kubelet, from recorded output of the probe, and from this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from support.runtimes import PROBED, RUNTIME

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import node_runtime
from mock_device.lab.cluster.node_runtime import HAS_UNIT, JOURNAL, PROBE, Kind, parse

K3S = (
    "tool\tk3s\t/usr/local/bin/k3s\n"
    "runtime\t/run/k3s/containerd/containerd.sock\tk3s.service\t/var/lib/rancher/k3s/data/12ab/bin/k3s\t"
    "containerd -c /var/lib/rancher/k3s/agent/etc/containerd/config.toml \n"
    "tool\tctr\t/var/lib/rancher/k3s/data/12ab/bin/ctr\n"
    "tool\tcrictl\t/var/lib/rancher/k3s/data/12ab/bin/crictl\n"
    "tool\tcontainerd\t/var/lib/rancher/k3s/data/12ab/bin/containerd\n"
    "kubelet\t\tk3s.service\t/var/lib/rancher/k3s/data/12ab/bin/k3s\t/usr/local/bin/k3s server \n"
    "unit\tk3s.service\n"
)
"""As k3s lays out a node; not recorded on one."""
DEBIAN = "runtime\t/run/containerd/containerd.sock\tcontainerd.service\t/usr/bin/containerd\t/usr/bin/containerd \n"
CRIO = (
    "tool\tcrictl\t/usr/bin/crictl\n"
    "runtime\t/run/crio/crio.sock\tcrio.service\t/usr/bin/crio\t/usr/bin/crio \n"
    "kubelet\t\tkubelet.service\t/usr/bin/kubelet\t/usr/bin/kubelet "
    "--container-runtime-endpoint=unix:///var/run/crio/crio.sock --root-dir /srv/kubelet \n"
    "unit\tkubelet.service\nunit\tcrio.service\n"
)


def test_node_of_the_lab() -> None:
    assert (RUNTIME.kind, RUNTIME.socket) == (Kind.CONTAINERD, "/run/containerd/containerd.sock")
    assert (RUNTIME.service, RUNTIME.kubelet_service) == ("containerd.service", "kubelet.service")
    assert RUNTIME.dump_config == "/usr/local/bin/containerd -c /etc/containerd/config.toml config dump"
    assert RUNTIME.ctr[:2] == ("env", "CONTAINERD_ADDRESS=/run/containerd/containerd.sock")
    assert RUNTIME.ctr[2:] == ("/usr/local/bin/ctr", "--namespace", "k8s.io")
    assert RUNTIME.restart.startswith("systemctl restart containerd.service && timeout 60 sh -c 'until env CONTAINERD_")
    assert (RUNTIME.kubelet_root, RUNTIME.crictl) == ("/var/lib/kubelet", ())


def test_one_unit_may_run_both_as_on_k3s_beside_an_unused_containerd() -> None:
    found = parse("node1", K3S + DEBIAN)
    assert found.socket == "/run/k3s/containerd/containerd.sock"
    assert found.services == ("k3s.service",)
    folder = "/var/lib/rancher/k3s"
    config = f"{folder}/agent/etc/containerd/config.toml"
    assert found.dump_config == f"{folder}/data/12ab/bin/containerd -c {config} config dump"
    assert found.ctr[2] == f"{folder}/data/12ab/bin/ctr"
    assert found.crictl[0] == f"{folder}/data/12ab/bin/crictl"


def test_tools_of_k3s_itself_serve_where_there_are_no_others() -> None:
    alone = "".join(line for line in K3S.splitlines(keepends=True) if "bin/c" not in line or "runtime" in line)
    found = parse("node1", alone)
    assert found.ctr[2:4] == ("/usr/local/bin/k3s", "ctr")
    assert found.crictl == ("/usr/local/bin/k3s", "crictl")


def test_kubelet_tells_its_runtime_and_its_root() -> None:
    found = parse("node1", DEBIAN + CRIO)
    assert (found.kind, found.service, found.kubelet_root) == (Kind.CRIO, "crio.service", "/srv/kubelet")
    assert (found.ctr, found.dump_config) == ((), "crio status config")
    assert "crictl --runtime-endpoint unix:///run/crio/crio.sock version" in found.restart


def test_stopped_kubelet_is_known_by_its_unit() -> None:
    without = "".join(line for line in PROBED.splitlines(keepends=True) if not line.startswith("kubelet"))
    assert parse("node1", without) == RUNTIME


def test_stopped_kubelet_is_that_of_the_unit_in_use() -> None:
    lines = [line for line in K3S.splitlines(keepends=True) if not line.startswith("kubelet")]
    both = "".join(lines).replace("\tk3s.service\t/", "\tk3s-agent.service\t/") + "unit\tk3s-agent.service\n"
    assert parse("node2", both).services == ("k3s-agent.service",)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("unit\tkubelet.service\n", f"node1: no container runtime listens on a socket .* journal: {JOURNAL}"),
        (
            DEBIAN + "".join(line for line in K3S.splitlines(keepends=True) if not line.startswith("kubelet")),
            r"node1: expected one container runtime, found several: /run/containerd/containerd.sock \(containerd.ser",
        ),
        (
            DEBIAN + "endpoint\tunix:///run/other.sock\n",
            "node1: the kubelet uses unix:///run/other.sock, but the runtimes listen on /run/containerd/con",
        ),
        (
            DEBIAN.replace("containerd.service", ""),
            r"node1: expected that systemd runs containerd, found \['/usr/bin/containerd'\] in no unit",
        ),
    ],
)
def test_unclear_runtime_is_an_error(output: str, reason: str) -> None:
    with pytest.raises(StepError, match=reason):
        parse("node1", output)


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the descriptors of all processes, which root may")
def test_probe_finds_a_listening_socket_and_its_process(tmp_path: Path) -> None:
    path = tmp_path / "containerd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        done = subprocess.run(["sh", "-c", PROBE], check=True, capture_output=True, text=True, timeout=60)
    (line,) = [line for line in done.stdout.splitlines() if str(path) in line]
    key, found, _, exe, command = line.split("\t")
    assert (key, found, exe) == ("runtime", str(path), str(Path("/proc/self/exe").resolve()))
    assert command.split() == Path("/proc/self/cmdline").read_text().replace("\0", " ").split()


def test_units_are_found_by_their_files() -> None:
    script = f"{HAS_UNIT}\nhas_unit no-such-unit || echo absent"
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == "absent\n"


def test_every_unit_is_in_the_journal_command() -> None:
    assert all(f"-u {name}" in JOURNAL for name in node_runtime.UNITS)
