"""A guest's command line and its boot configuration."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from support.topologies import CLUSTER

from mock_device import topology
from mock_device.lab.base.spec import ImageSpec, QemuSpec
from mock_device.lab.guest import guest
from mock_device.lab.guest.guest import GuestFile


@pytest.fixture(scope="module")
def cluster() -> topology.Topology:
    return CLUSTER


def test_every_numa_node_has_its_bridge_memory_and_root_ports(cluster: topology.Topology) -> None:
    options = guest.numa_options(cluster.nodes[0])
    assert "pxb-pcie,id=pxb0,bus=pcie.0,bus_nr=16,numa_node=0" in options
    assert "pxb-pcie,id=pxb1,bus=pcie.0,bus_nr=32,numa_node=1" in options
    assert "memory-backend-memfd,id=mem1,share=on,size=1073741824" in options
    assert "node,nodeid=1,memdev=mem1,cpus=1-1" in options
    ports = [option for option in options if option.startswith("pcie-root-port")]
    assert [port.split(",")[1:3] for port in ports] == [
        ["id=rp11", "bus=pxb0"],
        ["id=rp12", "bus=pxb0"],
        ["id=rp21", "bus=pxb1"],
        ["id=rp22", "bus=pxb1"],
    ]
    assert len({port.partition("chassis=")[2] for port in ports}) == 4
    windows = [2 * sum(function.window for function in slot.functions) for slot in cluster.nodes[0].slots]
    assert [port.partition("pref64-reserve=")[2] for port in ports] == [str(size) for size in windows]


@pytest.mark.parametrize(
    ("accelerator", "cpu", "machine", "emulated"),
    [
        ("kvm", "host,svm=off,vmx=off", "q35,smbios-entry-point-type=64", False),
        ("tcg", "max", "q35,smbios-entry-point-type=64,hpet=off", True),
    ],
)
def test_cpu_and_kernel(cluster: topology.Topology, accelerator: str, cpu: str, machine: str, emulated: bool) -> None:
    image = ImageSpec("/disk", "raw", "/kernel", "/initrd")
    qemu = QemuSpec(["qemu"], {}, accelerator)
    line = guest.argv(cluster.nodes[0], 1, qemu, image, Path("/d"), Path("/c"), [Path("/secret")])
    assert line[line.index("-cpu") + 1] == cpu
    assert line[line.index("-machine") + 1] == machine
    options = line[line.index("-append") + 1].split()
    assert "mitigations=off" in options
    assert {"fsck.mode=auto", "fsck.repair=yes"} <= set(options)
    only_emulated = ("no_timer_check", "tsc=reliable", "psi=0", "init_on_alloc=0")
    assert [option in options for option in only_emulated] == [emulated] * 4
    assert "type=11,path=/secret" in line


@pytest.mark.parametrize(("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max")])
def test_guests_of_a_profile_that_asks_for_it_can_run_guests(
    cluster: topology.Topology, accelerator: str, cpu: str
) -> None:
    image = ImageSpec("/disk", "raw", "/kernel", "/initrd")
    qemu = QemuSpec(["qemu"], {}, accelerator, nested=True)
    line = guest.argv(cluster.nodes[0], 1, qemu, image, Path("/d"), Path("/c"), [])
    assert line[line.index("-cpu") + 1] == cpu


@pytest.mark.parametrize(
    ("accelerator", "vcpus", "accel"),
    [("kvm", "single", "kvm"), ("tcg", "multi", "tcg,thread=multi"), ("tcg", "single", "tcg,thread=single")],
)
def test_threads_of_vcpus(cluster: topology.Topology, accelerator: str, vcpus: str, accel: str) -> None:
    image = ImageSpec("/disk", "raw", "/kernel", "/initrd")
    qemu = QemuSpec(["qemu"], {}, accelerator)
    line = guest.argv(cluster.nodes[0], 1, qemu, image, Path("/d"), Path("/c"), [], vcpus=vcpus)
    assert line[line.index("-accel") + 1] == accel
    assert ("systemd.setenv=GOMAXPROCS=1" in line[line.index("-append") + 1].split()) == accel.endswith("single")


def test_network_unit_routes_to_the_pods_of_the_others(cluster: topology.Topology) -> None:
    unit = guest.network_unit(cluster, 2)
    assert "MACAddress=52:54:00:4d:4f:02" in unit
    assert "Address=192.168.122.212/24" in unit
    assert "Destination=10.244.1.0/24\nGateway=192.168.122.211" in unit
    assert "10.244.2.0" not in unit


def test_credentials_contain_files_unchanged(cluster: topology.Topology) -> None:
    content = bytes(range(256))
    values = guest.credentials(cluster.nodes[0], "[Match]\n", "ssh-ed25519 AAAA", [GuestFile("/etc/x", content, 0o600)])
    name, _, encoded = values["files"].partition(b"=")
    assert name == b"io.systemd.credential.binary:tmpfiles.extra"
    line = base64.b64decode(encoded).decode()
    kind, path, mode, user, group, age, data = line.split()
    assert (kind, path, mode, user, group, age) == ("f+~", "/etc/x", "0600", "root", "root", "-")
    assert base64.b64decode(data) == content
    assert values["hostname"] == b"io.systemd.credential:system.hostname=mock-cluster-node1"
