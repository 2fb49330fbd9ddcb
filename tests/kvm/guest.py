"""One node of the lab without Kubernetes, on KVM: booted, plugged and saved, then restored.

Runs as the first process of namespaces, as a supervisor does. Everything but the missing control plane is the code
that runs clusters.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kvm import plan
from kvm.report import Report
from mock_device.checks.nodes import sysfs
from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.processes import Child
from mock_device.lab.base.spec import Access, ClusterSpec
from mock_device.lab.build import kbuild
from mock_device.lab.cluster import ssh
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.controlplane.addresses import SSH_PORT
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.lab.guest.node_files import common_files
from mock_device.lab.supervisor import network
from mock_device.lab.supervisor.cluster_processes import ClusterProcesses, Step
from mock_device.lab.supervisor.host_place import HostPlace
from mock_device.topology import Node, Topology

SAVED = "saved"
"""Folder of the saved guest, in that of the cluster."""
CLOCK_ERROR_SECONDS = 5.0
"""Most error of a restored guest's clock, with the time that a login takes here."""
LEAST_GAP_SECONDS = 10.0
"""Least time between saving and restoring with which the test of the clock proves something."""
_POLL_SECONDS = 1.0
_EVIDENCE_BYTES = 1500
_ABOUT = (
    "systemd-detect-virt; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; "
    "grep -cw -e svm -e vmx /proc/cpuinfo"
)
_ON_KVM = ["kvm", "kvm-clock", "0"]
"""Virtualisation and clock of a guest on KVM, and how many of its CPUs could run guests themselves."""
_LOAD = "cat >/run/module.ko && insmod /run/module.ko"
_NO_CONTAINERD = base64.b64encode(b"[Unit]\nConditionPathExists=/no-kubernetes\n").decode()


class NoKubernetes(HostPlace):
    """No control plane. A node without the kubelet's files starts none."""

    def node_files(self, node: Node, number: int, keys: SshKeys) -> Sequence[GuestFile]:
        return common_files(node, number, keys)

    async def start(self) -> None:
        """Nothing to start."""

    async def restore(self, golden: Path) -> None:
        """Nothing to restore."""

    def save(self, folder: Path) -> None:
        self._spec.paths.pki.rename(folder / "pki")


class Guests(ClusterProcesses):
    """The processes of a cluster without Kubernetes."""

    def __init__(self, spec: ClusterSpec, topology: Topology, failed: Callable[[str], object]) -> None:
        """``failed`` gets the reason when a process ends, or QEMU stops a guest."""
        super().__init__(spec, topology, self._ended, self._stopped)
        self._place = NoKubernetes(spec, topology, self.children)
        self._failed = failed

    def _stopped(self, node: str, status: str) -> None:
        self._failed(f"QEMU stopped {node} ({status})")

    def _ended(self, child: Child) -> None:
        self._failed(f"{child.name} ended unexpectedly with {child.process.returncode}")

    def steps(self) -> list[Step]:
        """The steps of a start without the registry; containerd, which nothing needs here, does not start."""
        steps = [step for step in super().steps() if step.name != "registry"]
        number = next(number for number, step in enumerate(steps) if step.name == "certificates and keys")
        return [*steps[: number + 1], Step("no containerd", self._without_containerd), *steps[number + 1 :]]

    async def _without_containerd(self) -> None:
        text = f"io.systemd.credential.binary:systemd.unit-dropin.containerd.service={_NO_CONTAINERD}"
        for node in self._topology.nodes:
            (self._credentials(node) / "no-containerd").write_text(text)


class OneNode:
    """The only node of a cluster, and how to work with it."""

    def __init__(self, spec: ClusterSpec, failed: Callable[[str], object] | None = None) -> None:
        """``failed`` gets the reason when a process or guest ends; by default it cancels the current task."""
        self.spec = spec
        topology = spec.load_topology()
        (self.node,) = topology.nodes
        task = asyncio.current_task()
        assert task
        self.guests = Guests(spec, topology, failed or task.cancel)

    async def start(self) -> None:
        for step in self.guests.steps():
            print(f"guest: {step.name}", flush=True)
            await step.work()
        port = Access.load(self.spec.paths.access).ssh_ports[self.node.name]
        listener = socket.create_server(("127.0.0.1", port))
        self._forward = await network.forward(listener.detach(), self.node.address, SSH_PORT)

    async def wait_for_ssh(self, seconds: float) -> None:
        """Wait until the node's SSH server listens; tries before that start nothing on the node. Raises StepError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    _, writer = await asyncio.open_connection(self.node.address, SSH_PORT)
            except (OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    message = f"{self.node.name} does not answer SSH after {seconds:.0f} s: {error}"
                    raise StepError(f"{message}\n{evidence(self.spec)}") from error
                await asyncio.sleep(_POLL_SECONDS)
            else:
                writer.close()
                return

    async def run(self, command: str, stdin: Path | None = None) -> str:
        """Output of a shell command on the node. Raises StepError."""
        paths = self.spec.paths
        port = Access.load(paths.access).ssh_ports[self.node.name]
        key = SshKeys(paths.pki).user.private
        access = NodeAccess(self.node.name, "127.0.0.1", port, "root", key, paths.pki / "known_hosts")
        return await asyncio.to_thread(
            ssh.on_node, access, ["sh", "-c", command], timeout=plan.LOGIN.inner_seconds, stdin=stdin
        )

    async def plug(self, seconds: float) -> None:
        """Plug all slots and wait until the node shows their devices. Raises StepError after ``seconds``."""
        for slot in self.node.slots:
            await self.guests.plug(self.node.name, slot.root_port, True)
        deadline = time.monotonic() + seconds
        while wrong := wrong_devices(self.node, sysfs.parse(self.node.name, await self.run(sysfs.PROBE))):
            if time.monotonic() > deadline:
                raise StepError(f"after {seconds:.0f} s {wrong}")
            await asyncio.sleep(_POLL_SECONDS)

    async def unplug(self) -> None:
        for slot in self.node.slots:
            await self.guests.plug(self.node.name, slot.root_port, False)


def wrong_devices(node: Node, found: sysfs.NodeDevices) -> str:
    """What ``found`` shows other than the topology's devices of ``node``; empty if all is right.

    VFs are not there, because they are not enabled.
    """
    on_bus = {item.bdf: item.numa_node for item in found.pci}
    expected_on_bus = {function.bdf: function.numa_node for function in node.functions if not function.is_vf}
    if on_bus != expected_on_bus:
        return f"the PCI bus: expected NUMA nodes of functions {expected_on_bus}, found {on_bus}"
    uuids = {item.name: (item.uuid, item.numa_node) for item in found.accelerators}
    expected = {item.name: (item.uuid, item.numa_node) for item in node.functions if not item.is_vf}
    return "" if uuids == expected else f"sysfs: expected {expected}, found {uuids}"


def wrong_clock(before: float, guest: float, after: float, saved: float) -> str:
    """What is wrong with the time ``guest`` that a restored guest had between ``before`` and ``after``; empty if right.

    It was ``saved`` at a time that it would still have if nothing had set its clock. All in seconds since 1970.
    """
    if before - saved < LEAST_GAP_SECONDS:
        return f"expected at least {LEAST_GAP_SECONDS:.0f} s between saving and this test, found {before - saved:.1f}"
    if before - CLOCK_ERROR_SECONDS < guest < after + CLOCK_ERROR_SECONDS:
        return ""
    return f"expected a clock between {before:.1f} and {after:.1f}, found {guest:.1f}; it was saved at {saved:.1f}"


def evidence(spec: ClusterSpec) -> str:
    """The last lines of the guest's console and QEMU's log."""
    logs = sorted(spec.paths.logs.glob("console-*.log")) + sorted(spec.paths.logs.glob("qemu-*.log"))
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-_EVIDENCE_BYTES:]}" for log in logs)


async def boot_and_save(spec: ClusterSpec, report: Report) -> None:
    """Steps from the boot to the saved guest."""
    one = OneNode(spec)
    with report.step(plan.GUEST):
        await one.start()
        await one.wait_for_ssh(plan.GUEST.inner_seconds)
    with report.step(plan.LOGIN):
        found = (await one.run(f"{_ABOUT}; {_LOAD}", kbuild.build_module())).split()
        if found != _ON_KVM:
            raise StepError(f"expected virtualisation, clock and CPUs with svm or vmx {_ON_KVM}, found {found}")
    with report.step(plan.PLUG):
        await one.plug(plan.PLUG.inner_seconds)
    with report.step(plan.SAVE):
        await one.unplug()
        folder = spec.paths.root / SAVED
        folder.mkdir()
        await one.guests.save(folder)
        (folder / "time").write_text(str(time.time()))
    await one.guests.children.kill_all()


async def restore_and_plug(spec: ClusterSpec, report: Report) -> None:
    """Steps from the saved guest to plugged devices."""
    folder = spec.paths.root / SAVED
    one = OneNode(replace(spec, golden=str(folder)))
    with report.step(plan.RESTORE):
        await one.start()
    with report.step(plan.CLOCK):
        before = time.time()
        now = float(await one.run("date +%s.%N"))
        if wrong := wrong_clock(before, now, time.time(), float((folder / "time").read_text())):
            raise StepError(wrong)
    with report.step(plan.PLUG_AGAIN):
        await one.plug(plan.PLUG_AGAIN.inner_seconds)
    await one.guests.children.kill_all()


async def notice_a_stop(spec: ClusterSpec, report: Report) -> None:
    """QEMU stops a guest that KVM cannot run, and the lab hears of it."""
    stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def first(reason: str) -> None:
        if not stopped.done():
            stopped.set_result(reason)

    with report.step(plan.NOTICED):
        one = OneNode(spec, first)
        await one.start()
        reason = await asyncio.wait_for(stopped, plan.NOTICED.inner_seconds)
        if "internal-error" not in reason:
            raise StepError(f"expected a guest that QEMU stopped (internal-error), found: {reason}")
    await one.guests.children.kill_all()


PHASES: dict[str, Callable[[ClusterSpec, Report], Awaitable[None]]] = {
    "stop": notice_a_stop,
    "boot": boot_and_save,
    "restore": restore_and_plug,
}


async def _run(phase: str, spec: ClusterSpec) -> None:
    done = False
    try:
        await PHASES[phase](spec, Report())
        done = True
    finally:
        if not done:
            print(evidence(spec), flush=True)


def main() -> None:
    """Run one phase of PHASES, with the cluster of a spec.json; in namespaces, as ``lab.supervisor`` does."""
    phase, file = sys.argv[1:]
    spec = ClusterSpec.load(Path(file))
    run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", spec.paths.sockets], timeout=10)
    # A socket's path has at most 107 bytes: relative to this folder it is short.
    os.chdir(spec.paths.sockets)
    asyncio.run(_run(phase, spec))


if __name__ == "__main__":
    main()
