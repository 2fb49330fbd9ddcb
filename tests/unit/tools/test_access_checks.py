"""Checks of a cluster that exists, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dra_fakes.answers import Answers, api_server, listing
from support.foreign_cluster import KUBECONFIG, PROFILE
from support.recorded_cluster import CONFIG, NODE1, NODE2, READY
from support.runtimes import RUNTIME

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import chart, kbuild
from mock_device.lab.cluster import attaching, inventory, kmm_state, node_images, node_runtime
from mock_device.lab.cluster.inventory import Inventory
from mock_device.lab.cluster.kmm import KmmLoader
from mock_device.lab.cluster.node_runtime import Kind
from mock_device.lab.cluster.ssh import JumpHost
from mock_device.tools import access_checks, ssh_remedies
from mock_device.tools.access_checks import Check

CONNECT = access_checks.connect
PCI = "numa\t0\t1024\t0\npci\t0000:11:00.0\t0x0001\t0\tpci0000:10/0000:11:00.0\nend\n"
FACTS = "0\n6.12.1-amd64\nx86_64\n"


def node_of(name: str, ready: str = "True") -> dict[str, Any]:
    info = {"kubeletVersion": "v1.37.2", "containerRuntimeVersion": "containerd://2.4.2"}
    for key in ("architecture", "bootID", "kernelVersion", "kubeProxyVersion", "machineID", "operatingSystem"):
        info[key] = ""
    info |= {"osImage": "", "systemUUID": ""}
    return {"metadata": {"name": name}, "status": {"conditions": [{**READY[0], "status": ready}], "nodeInfo": info}}


def slice_with(**spec: Any) -> tuple[int, dict[str, Any]]:
    pool = {"name": "check", "generation": 1, "resourceSliceCount": 1}
    return 201, {"metadata": {"name": "x"}, "spec": {"driver": "d", "pool": pool, **spec}}


SLICES = "/apis/resource.k8s.io/v1/resourceslices"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERSION = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), "")
ANSWERS: Answers = {
    "/version/": (200, {**VERSION, "gitVersion": "v1.37.2", "major": "1", "minor": "37"}),
    REVIEWS: (201, {"spec": {}, "status": {"allowed": True}}),
    SLICES: slice_with(sharedCounters=[{"name": "check", "counters": {}}]),
    "/api/v1/nodes": listing(node_of(NODE1), node_of(NODE2)),
}


class Fake:
    """Nodes that answer commands, and an API server that gives recorded answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        profile = folder / "mine.yaml"
        profile.write_text(PROFILE)
        (folder / "kubeconfig").write_text(KUBECONFIG)
        self.inventory = inventory.load(str(profile))
        self.facts, self.config, self.pci = FACTS, CONFIG, PCI
        self.answers = dict(ANSWERS)
        self.taken: list[Any] = []
        self.tool = ""
        """Path of podman or skopeo on the nodes."""
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(access_checks, "on_node", self._on_node)
        monkeypatch.setattr(access_checks, "runner", lambda _: lambda node, command: self.pci)
        monkeypatch.setattr(node_runtime, "find", lambda _: RUNTIME)
        monkeypatch.setattr(kbuild, "is_built_for", lambda release: release == "6.12.1-amd64")
        monkeypatch.setattr(attaching, "taken", lambda *_: self.taken)

    def _on_node(self, node: Any, command: Sequence[str], **_: object) -> str:
        if command[-1].startswith("command -v podman"):
            return self.tool
        return self.facts if command[-1].startswith("id -u") else self.config

    def check(self, change: Callable[[Inventory], Inventory] = lambda item: item) -> list[Check]:
        with api_server(self.answers) as api:
            self.monkeypatch.setattr(access_checks, "connect", lambda _: api)
            return access_checks.check(change(self.inventory))

    def problems(self, change: Callable[[Inventory], Inventory] = lambda item: item) -> list[tuple[str, str, str]]:
        return [(item.where, item.found, item.remedy) for item in self.check(change) if item.problem]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    return Fake(monkeypatch, tmp_path)


def test_cluster_that_can_be_attached(fake: Fake) -> None:
    found = fake.check()
    assert [(item.where, item.what) for item in found if item.problem] == []
    lines = access_checks.table(found).as_text().splitlines()
    assert lines[0] == "where\tcheck\tresult\tfound\tremedy"
    assert f"{NODE1}\tkernel module\tok\tbuilt for Linux 6.12.1-amd64\t" in lines
    assert f"{NODE2}\tSSH\tok\troot@{NODE2}:22\t" in lines
    assert "API\tanswers\tok\tKubernetes v1.37.2\t" in lines
    plan = access_checks.plan(fake.inventory).as_text()
    assert "object\tDaemonSet mock-device/mock-accel-node-agent" in plan
    assert "object\tNamespace mock-device-tests" in plan
    assert f"image on {NODE1}, {NODE2}\tlocalhost/mock-device/mock-accel-kmod:dev" in plan


def test_module_for_another_kernel_is_named_with_how_to_build_it(fake: Fake) -> None:
    fake.facts = FACTS.replace("6.12.1", "6.1.0")
    reason = "there is no module for its kernel, Linux 6.1.0-amd64"
    remedy = "lab build kmod-image --kernel 6.1.0-amd64"
    assert fake.problems() == [(NODE1, reason, remedy), (NODE2, reason, remedy)]
    assert fake.problems(lambda item: replace(item, module="none"))[0][1] == "the kernel module shows none"


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        ({"facts": "1000\nx\nx86_64"}, "logs in as root, who is not root", "set sudo: true, or another user"),
        ({"facts": "Welcome!"}, "expected the output of 'id -u; uname", "check the login shell of the user"),
        ({"facts": FACTS.replace("x86_64", "arm64")}, "expected x86_64, found arm64", "images and module are for one"),
        (
            {"config": CONFIG.replace("true", "false")},
            "containerd applies CDI files of no folder",
            "turn CDI on in",
        ),
        (
            {"pci": "numa\t0\t1024\t0\nend\n"},
            "no mock accelerator (vendor 1de5) on its PCI bus",
            "give the node",
        ),
        ({"pci": "?\nend\n"}, f"{NODE1}: expected a device or NUMA node, found '?'", "look at the node"),
    ],
)
def test_problem_of_a_node_is_named(fake: Fake, changes: dict[str, str], found: str, remedy: str) -> None:
    for name, value in changes.items():
        setattr(fake, name, value)
    where, text, what_to_do = fake.problems()[0]
    assert where == NODE1
    assert text.startswith(found)
    assert what_to_do.startswith(remedy)


@pytest.mark.parametrize(
    ("path", "answer", "found", "remedy"),
    [
        (
            "/version/",
            (401, {"message": "Unauthorized"}),
            "401: Unauthorized",
            "check the credentials in",
        ),
        (REVIEWS, (201, {"spec": {}, "status": {"allowed": False}}), "may not do everything", "use a kubeconfig with"),
        (SLICES, (404, {"message": "no such resource"}), "resource.k8s.io/v1: 404: no such", "use Kubernetes 1.34"),
        (SLICES, slice_with(), "resource.k8s.io/v1 drops shared counters", "turn the feature gate DRAPartitionable"),
        ("/api/v1/nodes", (403, {"message": "nodes is forbidden"}), "403: nodes is forbidden", "use a kubeconfig with"),
        ("/api/v1/nodes", listing(node_of(NODE2)), f"the cluster has no such node, it has {NODE2}", "correct its name"),
        ("/api/v1/nodes", listing(node_of(NODE1, "False"), node_of(NODE2)), f"{NODE1} has Ready=False", "wait until"),
    ],
)
def test_problem_of_the_api_is_named(fake: Fake, path: str, answer: Any, found: str, remedy: str) -> None:
    fake.answers[path] = answer
    ((_, text, what_to_do),) = fake.problems()
    assert text.startswith(found)
    assert what_to_do.startswith(remedy)


def test_taken_names_and_unusable_kubeconfigs_are_named(fake: Fake, tmp_path: Path) -> None:
    fake.taken = ["DaemonSet mock-device/mock-accel-kmod"]
    ((_, text, remedy),) = fake.problems()
    assert text == "exist already: DaemonSet mock-device/mock-accel-kmod"
    assert remedy.startswith("set install.module or install.driver to none")
    fake.monkeypatch.setattr(access_checks, "connect", CONNECT)
    real = access_checks.check(replace(fake.inventory, context="two"))
    assert [(item.where, item.what) for item in real if item.problem] == [("API", "kubeconfig")]


def test_crio_needs_a_tool_that_imports_images(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    crio = replace(RUNTIME, kind=Kind.CRIO, ctr=(), crictl=("crictl",))
    monkeypatch.setattr(node_runtime, "find", lambda _: crio)
    fake.config = "[crio.runtime]\ndefault_runtime = 'crun'\n[crio.runtime.runtimes.crun]\nruntime_path = ''\n"
    there = {"localhost/mock-device/busybox:1"}
    monkeypatch.setattr(node_images, "references", lambda *_: there)
    (_, text, remedy), _ = fake.problems()
    assert text == "expected podman or skopeo beside cri-o, found neither"
    missing = "localhost/mock-device/mock-accel-dra-driver:dev, localhost/mock-device/mock-accel-kmod:dev"
    assert remedy == f"install podman there, or put the images there: {missing}; archives: lab build"
    fake.tool = "/usr/bin/podman"
    assert "put there by /usr/bin/podman" in [item.found for item in fake.check()]
    fake.tool = ""
    there |= set(missing.split(", "))
    assert "are there" in [item.found for item in fake.check()]


def test_kmm_is_used_or_installed_or_its_files_are_asked_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_kmm(item: Inventory) -> Inventory:
        return replace(item, module="kmm")

    served = True
    monkeypatch.setattr(kmm_state, "is_served", lambda _: served)
    assert "the cluster has it" in [item.found for item in fake.check(with_kmm) if item.what == "KMM"]
    plan = access_checks.plan(with_kmm(fake.inventory)).as_text().splitlines()
    assert "object\tModule mock-device/mock-accel" in plan
    assert f"label of node\t{NODE1} mock-accel.example.com/kernel-module" in plan
    served = False
    for name in ("KMM_MANIFESTS", "KMM_IMAGES", "KMM_VERSION"):
        monkeypatch.delenv(name, raising=False)
    ((_, text, remedy),) = fake.problems(with_kmm)
    assert text.startswith("KMM: expected rendered manifests (YAML), found none: set KMM_MANIFESTS or kmm.manifests")
    assert remedy == "set install.module to pod, or name KMM's files"
    assert access_checks.plan(with_kmm(fake.inventory)).as_text().splitlines() == plan
    monkeypatch.setattr(KmmLoader, "images", lambda _: {"kmm/operator:v9": Path("x"), "kmm/worker:v9": Path("y")})
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kmm"}}
    monkeypatch.setattr(KmmLoader, "planned", lambda _: [namespace])
    installed = "the cluster does not have it; it is installed with 2 images"
    assert installed in [item.found for item in fake.check(with_kmm)]
    plan = access_checks.plan(with_kmm(fake.inventory)).as_text().splitlines()
    assert {"object\tNamespace kmm", f"image on {NODE1}, {NODE2}\tkmm/operator:v9"} <= set(plan)


def test_plan_names_the_helm_release_and_its_objects(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "c", "namespace": "mock-device"}}
    monkeypatch.setattr(chart, "render", lambda _: yaml.safe_dump(rendered))
    plan = access_checks.plan(replace(fake.inventory, driver="helm")).as_text().splitlines()
    assert {"Helm release\tmock-device/mock-device", "object\tDeployment mock-device/c"} <= set(plan)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("Host key verification failed.", "compare its fingerprint, then: ssh-keyscan -p 22 node1 >> "),
        ("me@node1: Permission denied (publickey).", "let the key in: ssh-copy-id -i "),
        ("sudo: a password is required", "let root use sudo without a password (NOPASSWD"),
        ("sh: 1: sudo: not found", "install sudo there, or log in as root"),
        ('Load key "/x": error in libcrypto', "check the key "),
        ("connect to host node1 port 22: Connection refused", "check host and port of node1:22, and the network"),
        ("ssh did not end within 180 s", "check host and port of node1:22"),
        ("something else", "try it by hand: ssh -i "),
    ],
)
def test_error_of_ssh_has_a_remedy(fake: Fake, text: str, remedy: str) -> None:
    node = replace(fake.inventory.nodes[0], host="node1")
    assert ssh_remedies.remedy(node, text).startswith(remedy)


def test_error_of_the_jump_host_names_the_jump_host(fake: Fake) -> None:
    jump = JumpHost("gate", 2222, "me", Path("/key"), Path("/hosts"))
    node = replace(fake.inventory.nodes[0], jump=jump)
    text = "me@gate: Permission denied (publickey).\n kex_exchange: Connection closed by UNKNOWN port 65535"
    assert ssh_remedies.remedy(node, text) == "let the key in: ssh-copy-id -i /key -p 2222 me@gate"


def test_unreachable_node_is_named_with_what_ssh_printed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(node: Any, *_: object, **__: object) -> str:
        raise StepError("ssh -F none -p 22 -o ended with 255: ssh: connect to host x port 22: Connection refused")

    monkeypatch.setattr(access_checks, "on_node", refuse)
    assert fake.problems()[0][:2] == (NODE1, "ssh: connect to host x port 22: Connection refused")
