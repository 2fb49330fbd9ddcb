"""``make test-kvm`` inside the outer guest: what is right of devices and clocks, and what the node gets."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from kvm import guest, inside, material
from kvm.guest import Guests, wrong_clock, wrong_devices
from kvm.plan import NODE_DISK, SHORT, WHOLE, Plan
from kvm.report import Report
from support.fake_supervisor import SPEC
from support.topologies import SINGLE_NODE

from mock_device.checks.nodes.sysfs import Accelerator, NodeDevices, PciFunction
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import cache_root
from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec
from mock_device.lab.build.node_image import NodeImage
from mock_device.lab.cluster import profile
from mock_device.lab.guest import kernel_probe

(NODE,) = SINGLE_NODE.nodes


def devices() -> NodeDevices:
    """The devices of the topology, as the node shows them."""
    pci = [PciFunction(one.bdf, 1, one.numa_node) for one in NODE.functions if not one.is_vf]
    shown = [
        Accelerator(one.name, one.uuid, one.memory, one.numa_node, 0, 0, one.bdf)
        for one in NODE.functions
        if not one.is_vf
    ]
    return NodeDevices(NODE.name, tuple(pci), tuple(shown))


def test_devices_of_the_topology_are_right() -> None:
    assert wrong_devices(NODE, devices()) == ""


def test_devices_on_the_wrong_numa_node_or_missing_are_named() -> None:
    found = devices()
    moved = replace(found, pci=(replace(found.pci[0], numa_node=7), *found.pci[1:]))
    assert wrong_devices(NODE, moved).startswith("the PCI bus: expected NUMA nodes of functions {'0000:11:00.0': 0")
    unnamed = replace(found, accelerators=found.accelerators[1:])
    assert wrong_devices(NODE, unnamed).startswith("sysfs: expected {'mock0': ('NODE1-NUMA0-PF', 0)")


@pytest.mark.parametrize(
    ("guest_time", "wrong"),
    [
        (1051.0, ""),
        (1043.0, "expected a clock between 1050.0 and 1052.0, found 1043.0; it was saved at 1000.0"),
        (1060.0, "expected a clock between 1050.0 and 1052.0, found 1060.0; it was saved at 1000.0"),
    ],
)
def test_clock(guest_time: float, wrong: str) -> None:
    assert wrong_clock(1050, guest_time, 1052, saved=1000) == wrong


def test_clock_right_after_the_save_proves_nothing() -> None:
    assert wrong_clock(1004, 1004, 1005, saved=1000) == (
        "expected at least 10 s between saving and this test, found 4.0"
    )


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    paths = ClusterPaths(tmp_path / "some")
    for folder in (paths.data, paths.logs):
        folder.mkdir(parents=True)
    Access(16443, {NODE.name: 2201}, 5001).save(paths.access)
    return replace(SPEC, topology=str(SINGLE_NODE.path), directory=str(paths.root))


def credentials(spec: ClusterSpec) -> dict[str, str]:
    """What the node gets at boot, by name."""

    async def make() -> None:
        guests = Guests(spec, SINGLE_NODE, pytest.fail)
        for step in guests.steps():
            if step.name in ("certificates and keys", "no containerd"):
                await step.work()

    asyncio.run(make())
    return {file.name: file.read_text() for file in (spec.paths.data / f"{NODE.name}.credentials").iterdir()}


def test_node_gets_no_kubernetes(spec: ClusterSpec) -> None:
    found = credentials(spec)
    files = base64.b64decode(found["files"].partition("tmpfiles.extra=")[2]).decode()
    assert "/etc/ssh/ssh_host_ed25519_key" in files
    assert "kubelet" not in files
    assert found["no-containerd"].startswith("io.systemd.credential.binary:systemd.unit-dropin.containerd.service=")


def test_cluster_has_no_registry(spec: ClusterSpec) -> None:
    async def names() -> list[str]:
        return [step.name for step in Guests(spec, SINGLE_NODE, pytest.fail).steps()]

    found = asyncio.run(names())
    assert "registry" not in found
    assert found.index("no containerd") < found.index("guests")


def test_evidence_is_of_console_and_qemu(spec: ClusterSpec) -> None:
    (spec.paths.logs / "console-n1.log").write_text("panic")
    (spec.paths.logs / "qemu-n1.log").write_text("KVM internal error")
    assert guest.evidence(spec) == "console-n1.log: panic\nqemu-n1.log: KVM internal error"


def test_other_accelerator_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "accelerator", lambda: "tcg")
    with pytest.raises(StepError, match="expected accelerator kvm, found tcg"):
        inside.check_accelerator()


def test_kvm_that_does_not_run_the_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(profile.load("embedded"), accelerator="kvm", accelerator_found=True)
    monkeypatch.setattr(profile, "load", lambda _: found)
    monkeypatch.setattr("mock_device.lab.cluster.kvm._complaint", lambda _: "it hangs")
    with pytest.raises(StepError, match=r"expected accelerator kvm, found tcg: warning: .*it hangs"):
        inside.probe_kernel()


@pytest.mark.parametrize(
    ("found", "fails"), [("KVM internal error. Suberror: 1", False), ("the kernel printed nothing", True), ("", True)]
)
def test_probe_must_name_the_internal_error(monkeypatch: pytest.MonkeyPatch, found: str, fails: bool) -> None:
    monkeypatch.setattr(kernel_probe, "complaint", lambda *_: found)
    if not fails:
        inside.probe_bad_kernel(SPEC.qemu, Path("kernel"))
        return
    with pytest.raises(StepError, match="expected KVM's internal error, found"):
        inside.probe_bad_kernel(SPEC.qemu, Path("kernel"))


@pytest.mark.parametrize("chosen", [SHORT, WHOLE], ids=lambda plan: plan.name)
def test_artifacts_have_the_same_keys_in_the_outer_guest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: Plan
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "outside"))
    names = ("node-image/a", "module/b", "kubernetes/c", "kbuild/d")
    for name in names:
        (cache_root() / name).mkdir(parents=True)
        (cache_root() / name / "file").write_text(name)
    disk = cache_root() / "node-image/a/disk.raw"
    disk.write_text("large")
    image = NodeImage(disk, "raw", disk, disk, "6.12")
    monkeypatch.setattr(material, "build_node_image", lambda: image)
    material.copy_artifacts([cache_root() / name for name in names], tmp_path / "inside", chosen)
    copied = {"node-image/a", "module/b"} | ({"kubernetes/c"} if chosen is WHOLE else set())
    for name in names:
        assert (tmp_path / "inside" / name).is_dir()
        assert (tmp_path / "inside" / name / "file").exists() == (name in copied)
    assert (tmp_path / "inside/node-image/a/disk.raw").readlink() == NODE_DISK


def test_cluster_is_released_when_its_suite_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    released: list[bool] = []
    asked: list[object] = []

    def up(topology: str, **options: object) -> SimpleNamespace:
        asked.append((topology, options["cold"]))
        return SimpleNamespace(release=lambda: released.append(True))

    monkeypatch.setattr("kvm.inside.client.up", up)
    monkeypatch.setattr("kvm.inside.subprocess.run", lambda *_, **__: SimpleNamespace(returncode=2))
    report = tmp_path / "report.log"
    with pytest.raises(StepError, match="robot ended with 2, expected 0"):
        inside.run_cluster(Report(report))
    assert (asked, released) == ([("single-node", True)], [True])
    assert [next(iter(json.loads(line).items())) for line in report.read_text().splitlines()] == [
        ("begin", "cluster"),
        ("end", "cluster"),
        ("begin", "suite"),
        ("end", "suite"),
    ]
