"""The guests' disk, kernel and initial RAM disk: a Debian with containerd and Kubernetes, reduced to boot fast.

The files in ``data/node`` are copied unchanged; files that differ between nodes
are passed at boot (``lab.guest.node_files``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import yaml

from mock_device.lab.base.commands import run
from mock_device.lab.base.defaults import DEFAULT_KUBERNETES
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import remove_tree, write_file
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.paths import log_path
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import debian
from mock_device.lab.build.gobuild import build_containerd, build_embedded_k8s
from mock_device.lab.build.images import build_base_images
from mock_device.lab.build.rootless import as_root, in_tree
from mock_device.lab.build.store import Input, cached
from mock_device.lab.controlplane.addresses import CLUSTER_CIDR, DNS_ADDRESS, DNS_DOMAIN

DATA = Path(__file__).parent / "data" / "node"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "procps",
    "mount",
    "e2fsprogs",
    "openssh-server",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "crun",
    "runc",
    "containernetworking-plugins",
    "nftables",
    "pciutils",
)
NODE_PROGRAMS = ("kubelet", "kube-proxy")
SERVICES = ("containerd", "kubelet", "kube-proxy", "systemd-networkd", "ssh", "lab-clock", "timer-slack")
# Nodes do not need these units; without hardware virtualisation, starting them takes about half of the boot.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ldconfig.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "serial-getty@ttyS0.service",
    "ssh.socket",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "systemd-timesyncd.service",
)
# Units that D-Bus starts on demand, so boot does not start them: `systemctl reboot` asks logind.
ON_DEMAND = ("systemd-logind.service",)
_DISK_BYTES = 6 << 30
_JOURNAL_MIB = 16
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class NodeImage:
    """Files from which a guest boots. The disk is a read-only base of the guests' overlays."""

    disk: Path
    disk_format: str
    kernel: Path
    initrd: Path
    kernel_release: str


def kubelet_config(version: KubernetesVersion = DEFAULT_KUBERNETES) -> dict[str, object]:
    """KubeletConfiguration (kubelet.config.k8s.io/v1beta1) of every node."""
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/kubernetes/kubelet.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/kubelet.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # systemd would create, announce and log three units per pod.
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DNS_DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "maxPods": 200,
        # The default is 2 min. Without hardware virtualisation, a hundred pods that end at once take longer, and the
        # kubelet would repeat each timed-out call while containerd is still working on the first.
        "runtimeRequestTimeout": "10m",
        # The disk lives only as long as the cluster, and images that are deleted cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "32Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }
    # By default the kubelet pulls an image that is on the node again when it pulled the same content under another
    # name before. `lab load-image` puts images on nodes under names that no registry has. An older kubelet does not
    # verify, and refuses the key.
    if version >= KubernetesVersion.V1_35:
        config["imagePullCredentialsVerificationPolicy"] = "NeverVerify"
    return config


def kube_proxy_config() -> dict[str, object]:
    """KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) of every node."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": CLUSTER_CIDR,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
    }


def _skip_sysctl_for_pods(tree: Path) -> None:
    """Keep udev from starting systemd-sysctl for each pod's interface: none of the node's settings concerns them."""
    rules = (tree / "usr/lib/udev/rules.d/99-systemd.rules").read_text()
    found = 'SUBSYSTEM=="net", KERNEL!="lo", RUN+="/usr/lib/systemd/systemd-sysctl'
    if found not in rules:
        raise StepError(f"udev's 99-systemd.rules has no line with {found}")
    write_file(tree / "etc/udev/rules.d/99-systemd.rules", rules.replace(found, found.replace('"lo"', '"lo|veth*"')))


def _install_files(tree: Path, version: KubernetesVersion) -> None:
    shutil.copytree(DATA, tree, dirs_exist_ok=True)
    (tree / "etc/kubernetes").mkdir()
    for name, config in (("kubelet", kubelet_config(version)), ("kube-proxy", kube_proxy_config())):
        write_file(tree / "etc/kubernetes" / f"{name}.yaml", yaml.safe_dump(config))
    _skip_sysctl_for_pods(tree)
    for unit in ON_DEMAND:
        (tree / "usr/lib/systemd/system/multi-user.target.wants" / unit).unlink()
    # The kernel's command line sets the machine ID; with an empty file systemd does not treat the boot as the first.
    write_file(tree / "etc/machine-id", "")
    # mmdebstrap copies this machine's host name; a node gets its own as a credential.
    (tree / "etc/hostname").unlink(missing_ok=True)
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    programs = tree / "usr/local/bin"
    shutil.copy2(build_embedded_k8s(version) / "embedded-k8s", programs)
    for name in NODE_PROGRAMS:
        (programs / name).symlink_to("embedded-k8s")
    for program in build_containerd().iterdir():
        shutil.copy2(program, programs)


def _set_up_boot(tree: Path, log: Path) -> None:
    for service in SERVICES:
        run(in_tree(tree, ["systemctl", "enable", service]), log=log, timeout=Timeout.NODE_IMAGE_SERVICE.seconds)
    run(in_tree(tree, ["systemctl", "mask", *MASKED]), log=log, timeout=Timeout.NODE_IMAGE_SERVICE.seconds)
    run(in_tree(tree, ["update-initramfs", "-u"]), log=log, timeout=Timeout.NODE_IMAGE_IMPORT.seconds)


def _import_images(tree: Path, archives: tuple[Path, ...], work: Path, log: Path) -> None:
    """Import ``archives`` into the tree's containerd store, by a containerd that runs temporarily on this machine."""
    programs = build_containerd()
    state, socket, config = work / "state", work / "containerd.sock", work / "config.toml"
    data = tree / "var/lib/containerd"
    write_file(
        config,
        f'version = 3\nroot = "{data}"\nstate = "{state}"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]\n'
        f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{socket}.ttrpc"\n',
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    with log.open("ab") as output:
        argv = as_root([programs / "containerd", "--config", config, "--log-level", "warn"])
        daemon = subprocess.Popen(argv, stdout=output, stderr=output, env=environment, start_new_session=True)
    ctr = [str(programs / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
    try:
        deadline = time.monotonic() + Timeout.NODE_IMAGE_SERVICE.seconds
        while not socket.exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise StepError("containerd did not start on this machine", log)
            time.sleep(_POLL_SECONDS)
        for archive in archives:
            argv = [*ctr, "images", "import", "--snapshotter", "overlayfs", str(archive)]
            run(argv, log=log, timeout=Timeout.NODE_IMAGE_IMPORT.seconds)
    finally:
        daemon.terminate()
        try:
            daemon.wait(Timeout.NODE_IMAGE_SERVICE.seconds)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def disk_command(tree: Path, disk: Path, size: int) -> list[str | Path]:
    """The command that creates ``disk``, a file system of ``size`` bytes with the content of ``tree``.

    The file system has a journal, because nodes must survive a power cut. The suites cut power by resetting the guest,
    which keeps all data already passed to QEMU (``cache=unsafe`` risks it only if this machine loses power).
    """
    options = ["-J", f"size={_JOURNAL_MIB}", "-E", "lazy_itable_init=1", "-m", "0", "-L", "node"]
    return ["mke2fs", "-q", "-t", "ext4", *options, "-d", tree, disk, f"{size >> 10}k"]


def build_node_packages() -> Path:
    """Tree of Debian's packages for the node image; built if it is not cached. Needs nothing of Kubernetes."""

    def build(folder: Path) -> None:
        debian.tree(folder / "tree", PACKAGES, log=log_path("node-packages"))

    inputs: dict[str, Input] = {"debian": Path(debian.__file__), "packages": PACKAGES}
    return cached("node-packages", inputs, build, what="Debian packages of the node image") / "tree"


def take_boot_files(tree: Path, folder: Path) -> str:
    """Copy kernel and initial RAM disk of ``tree`` to ``folder``, and remove what only a boot loader or apt needs.

    Returns the kernel's release.
    """
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    release = kernel.name.removeprefix("vmlinuz-")
    shutil.copy2(kernel, folder / "vmlinuz")
    shutil.copy2(tree / "boot" / f"initrd.img-{release}", folder / "initrd")
    for unneeded in ("boot", "var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(tree / unneeded, ignore_errors=True)
    return release


def _build(folder: Path, version: KubernetesVersion) -> None:
    log = log_path("node-image")
    tree = folder / "tree"
    run(as_root(["cp", "-a", build_node_packages(), tree]), log=log, timeout=Timeout.NODE_IMAGE_DISK.seconds)
    _install_files(tree, version)
    _set_up_boot(tree, log)
    # Not below ``folder``: the path of a socket is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mock-device-") as work:
        _import_images(tree, build_base_images(), Path(work), log)
    write_file(folder / "kernel-release", take_boot_files(tree, folder))
    disk = folder / "disk.raw"
    argv = disk_command(tree, disk, _DISK_BYTES)
    run(as_root(argv), log=log, timeout=Timeout.NODE_IMAGE_DISK.seconds)
    disk.chmod(0o444)
    remove_tree(tree)


@cache
def build_node_image(version: KubernetesVersion = DEFAULT_KUBERNETES) -> NodeImage:
    """The image of all nodes that run ``version``; built if it is not cached. Raises StepError."""
    inputs: dict[str, Input] = {
        "source": Path(__file__),
        "files": DATA,
        "debian": Path(debian.__file__),
        "kubelet": yaml.safe_dump(kubelet_config(version)),
        "kube-proxy": yaml.safe_dump(kube_proxy_config()),
        "kubernetes": str(build_embedded_k8s(version)),
        "containerd": str(build_containerd()),
        "images": [str(archive) for archive in build_base_images()],
    }
    what = f"node image (Debian, containerd, Kubernetes {version})"
    folder = cached("node-image", inputs, partial(_build, version=version), what=what)
    release = (folder / "kernel-release").read_text()
    return NodeImage(folder / "disk.raw", "raw", folder / "vmlinuz", folder / "initrd", release)
