"""The steps inside the outer guest, where ``outer-init`` starts this program with the name of a plan."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from kvm import plan
from kvm.bad_kernel import bad_kernel
from kvm.report import Report
from mock_device import topology as topologies
from mock_device.lab.base.defaults import DEFAULT_PROFILE
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.namespaces import unshare
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.spec import NO_INTERNET, Access, ClusterPaths, ClusterSpec, ImageSpec, QemuSpec
from mock_device.lab.base.timeouts import factor
from mock_device.lab.build.outer_guest import MATERIAL
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.cluster import client, kvm, profile
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.guest import kernel_probe
from mock_device.lab.guest.accelerator import accelerator

_PORTS = 16000
"""First of the TCP ports in the namespaces of a cluster; any are free there."""


def check_accelerator() -> None:
    """Raise StepError unless the lab chooses KVM here."""
    if (found := accelerator()) != "kvm":
        raise StepError(f"expected accelerator kvm, found {found}")


def probe_kernel() -> Profile:
    """The default profile, for which the lab has tried KVM. Raises StepError if that did not work."""
    warnings: list[str] = []
    found = kvm.with_working_accelerator(profile.load(DEFAULT_PROFILE), warnings.append)
    if found.accelerator != "kvm":
        raise StepError(f"expected accelerator kvm, found {found.accelerator}: {' '.join(warnings)}")
    return found


def probe_bad_kernel(qemu: QemuSpec, kernel: Path) -> None:
    """Raise StepError unless the probe finds KVM's internal error."""
    found = kernel_probe.complaint(qemu, kernel, plan.STOP.inner_seconds)
    if "internal error" not in found:
        raise StepError(f"expected KVM's internal error, found {found or 'a kernel that runs'!r}")


def spec_of(name: str, cluster_profile: Profile) -> ClusterSpec:
    """Specification of a cluster without Kubernetes, and its files."""
    qemu, image, paths = ensure_qemu(), cluster_profile.node_image(), ClusterPaths.of(name)
    topology = topologies.load(MATERIAL / plan.TOPOLOGY_FILE)
    for folder in (paths.logs, paths.data, paths.sockets):
        folder.mkdir(parents=True)
    write_file(paths.topology, topology.text)
    ssh_ports = {node.name: port for port, node in enumerate(topology.nodes, _PORTS)}
    Access(api_port=_PORTS - 1, ssh_ports=ssh_ports, registry_port=_PORTS - 2).save(paths.access)
    return ClusterSpec(
        name=name,
        topology=str(topology.path),
        directory=str(paths.root),
        qemu=QemuSpec(qemu.system_argv, qemu.env, cluster_profile.accelerator),
        qemu_img=qemu.img_argv,
        image=ImageSpec(str(image.disk), image.disk_format, str(image.kernel), str(image.initrd)),
        binaries="",
        feature_gates="",
        runtime_config="",
        default_runtime=cluster_profile.default_runtime,
        k3s=None,
        golden="",
        control_fd=-1,
        api_fd=-1,
        ssh_fds={},
        registry="",
        registry_fd=-1,
        internet_fd=NO_INTERNET,
        kubelet_config="",
        timeout_factor=factor(),
    )


def phase(name: str, spec: ClusterSpec) -> bool:
    """Run a phase of ``kvm.guest`` in new namespaces; whether its steps passed."""
    spec.save(spec.paths.spec)
    argv = [*unshare(), sys.executable, "-m", "kvm.guest", name, str(spec.paths.spec)]
    return subprocess.run(argv, check=False, timeout=plan.SHORT.seconds / plan.SLOWNESS).returncode == 0


def run_suite(step: plan.Step) -> None:
    """Run the suite with the basics on the running cluster for as long as ``step`` may take. Raises StepError."""
    argv = [sys.executable, "-m", "robot", "--outputdir", "/tmp/results", "suites/environment.robot"]
    code = subprocess.run(argv, check=False, timeout=step.inner_seconds, cwd=PROJECT).returncode
    if code:
        raise StepError(f"robot ended with {code}, expected 0: see the console")


def run_cluster(report: Report) -> None:
    """Boot a whole cluster, and run a suite on it."""
    with report.step(plan.CLUSTER):
        cluster = client.up(plan.TOPOLOGY, who="test-kvm", cold=True)
    try:
        with report.step(plan.SUITE):
            run_suite(plan.SUITE)
    finally:
        cluster.release()


def main() -> None:
    """Run the steps, which report themselves; those that need a step that failed are not run."""
    report, chosen = Report(), plan.PLANS[sys.argv[1]]
    print(f"factor of time-outs: {factor():g}", flush=True)
    with report.step(plan.ACCELERATOR):
        check_accelerator()
    with report.step(plan.KERNEL):
        found = probe_kernel()
    if chosen is plan.WHOLE:
        run_cluster(report)
        return
    good = spec_of("guest", found)
    if phase("boot", good):
        phase("restore", good)
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder, "kernel")
        write_file(kernel, bad_kernel())
        bad = spec_of("stopped", found)
        with report.step(plan.STOP):
            probe_bad_kernel(bad.qemu, kernel)
        phase("stop", replace(bad, image=replace(bad.image, kernel=str(kernel))))


if __name__ == "__main__":
    main()
