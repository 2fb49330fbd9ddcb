"""A node as a QEMU guest: its command line, its configuration, its monitor."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.files import write_file
from mock_device.lab.base.spec import ImageSpec, QemuSpec
from mock_device.lab.controlplane.addresses import HOST_ADDRESS, PREFIX_LENGTH, pod_cidr
from mock_device.lab.guest.accelerator import cpu_model
from mock_device.topology import Node, Slot, Topology

NETWORK_SOCKET = "net.sock"
"""Socket that the guest's network card connects to, in the node's folder of sockets."""
_LEAST_RESERVE = 2 << 20
_MIB = 1 << 20
_KERNEL_OPTIONS = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=4 systemd.show_status=false systemd.firstboot=off "
    # After a power cut the disk is checked, which replays its journal, without asking questions.
    "fsck.mode=auto fsck.repair=yes "
    # Guests cannot be reached from outside, and mitigations are expensive without hardware virtualisation.
    "mitigations=off"
)
TIMER_OPTION = "no_timer_check"
"""For every kernel on an emulated CPU: do not check at boot whether timer interrupts arrive in time.

On a busy host they are late, and the kernel panics: 'IO-APIC + timer doesn't work'. Under KVM, Linux skips the check.
"""
_TCG_KERNEL_OPTIONS = (
    f"{TIMER_OPTION} "
    # QEMU's emulated TSC is the host's. Emulation stalls now and then, so Linux would mark it unstable and read the
    # HPET instead: no vDSO, and a device access under QEMU's big lock for each reading.
    "tsc=reliable "
    # Accounting and hardening at each context switch, allocation and system call, and NUMA balancing each second, take
    # a tenth of an idle node's emulated CPU time. Nothing here reads these figures or needs the hardening.
    "psi=0 init_on_alloc=0 numa_balancing=disable audit=0 hardened_usercopy=off randomize_kstack_offset=off "
    # The node's services are in Go, which preempts long-running goroutines by signals. These are expensive under
    # emulation, as are garbage collection and the runtime's monitor thread, which wakes up every 20 us. With timer
    # slack it wakes up less often; timers of pods may be late, too.
    "systemd.setenv=GODEBUG=asyncpreemptoff=1 systemd.setenv=GOGC=300 systemd.setenv=TIMER_SLACK_NS=5000000"
)
# All vCPUs share one thread of the host: more threads of a Go program would only wake each other.
_SINGLE_KERNEL_OPTIONS = "systemd.setenv=GOMAXPROCS=1"


@dataclass(frozen=True)
class GuestFile:
    """A file that is written into a guest at boot."""

    path: str
    content: bytes
    mode: int = 0o644


def mac_address(number: int) -> str:
    """Locally administered MAC address of node ``number``, which counts from 1."""
    return f"52:54:00:4d:4f:{number:02x}"


def machine_id(node: Node) -> str:
    """machine-id(5) of a node, the same at every boot."""
    return hashlib.sha256(node.name.encode()).hexdigest()[:32]


def network_unit(topology: Topology, number: int) -> str:
    """systemd.network(5) file of node ``number``: its address and the routes to the other nodes' pods."""
    node = topology.nodes[number - 1]
    lines = ["[Match]", f"MACAddress={mac_address(number)}", "[Network]"]
    lines += [f"Address={node.address}/{PREFIX_LENGTH}", f"Gateway={HOST_ADDRESS}"]
    lines += ["LinkLocalAddressing=no", "IPv6AcceptRA=no"]
    for other_number, other in enumerate(topology.nodes, 1):
        if other_number != number:
            lines += ["[Route]", f"Destination={pod_cidr(other_number)}", f"Gateway={other.address}"]
    return "\n".join(lines) + "\n"


def tmpfiles_lines(files: Sequence[GuestFile]) -> str:
    """``files`` as tmpfiles.d(5) lines; ``~`` marks a Base64 argument.

    Each boot writes them (``+``), which repairs a file that a power cut left empty.
    """
    return "".join(
        f"f+~ {file.path} {file.mode:04o} root root - {base64.b64encode(file.content).decode()}\n" for file in files
    )


def credentials(node: Node, network: str, ssh_key: str, files: Sequence[GuestFile]) -> dict[str, bytes]:
    """Values of SMBIOS type 11 strings, by the name of the file they are written to.

    systemd.system-credentials(7): ``io.systemd.credential:NAME=text`` and
    ``io.systemd.credential.binary:NAME=Base64``.
    """

    def binary(name: str, content: str) -> bytes:
        return f"io.systemd.credential.binary:{name}={base64.b64encode(content.encode()).decode()}".encode()

    return {
        "hostname": f"io.systemd.credential:system.hostname={node.name}".encode(),
        "network": binary("network.network.50-eth", network),
        "ssh-key": binary("ssh.authorized_keys.root", ssh_key),
        "files": binary("tmpfiles.extra", tmpfiles_lines(files)),
    }


def write_credentials(folder: Path, values: Mapping[str, bytes]) -> list[Path]:
    """Write one file per credential, for QEMU's ``-smbios type=11,path=``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, value in values.items():
        write_file(folder / name, value, 0o600)
        paths.append(folder / name)
    return paths


def _kernel_options(node: Node, emulated: bool, vcpus: str) -> str:
    options = [_KERNEL_OPTIONS, f"systemd.machine_id={machine_id(node)}"]
    if emulated:
        options.append(_TCG_KERNEL_OPTIONS)
        if vcpus == "single":
            options.append(_SINGLE_KERNEL_OPTIONS)
    return " ".join(options)


def argv(
    node: Node,
    number: int,
    qemu: QemuSpec,
    image: ImageSpec,
    disk: Path,
    console: Path,
    secrets: Sequence[Path],
    *,
    vcpus: str = "multi",
    restored: bool = False,
) -> list[str]:
    """QEMU's command line. Sockets are relative to the working directory, because a socket's path must be short.

    ``vcpus`` is a value of QEMU's ``-accel tcg,thread=``. With ``restored`` the
    guest waits for its saved memory instead of booting.
    """
    emulated = qemu.accelerator == "tcg"
    accelerator = f"tcg,thread={vcpus}" if emulated else qemu.accelerator
    command = [*qemu.argv, "-name", node.name, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]
    command += ["-machine", f"q35,smbios-entry-point-type=64{',hpet=off' if emulated else ''}", "-accel", accelerator]
    command += ["-cpu", cpu_model(qemu.accelerator, nested=qemu.nested)]
    # One CPU per socket, because a socket must not span two NUMA nodes.
    command += ["-smp", f"{node.cpus},sockets={node.cpus},cores=1,threads=1", "-m", f"{node.memory // _MIB}M"]
    command += [
        "-kernel",
        image.kernel,
        "-initrd",
        image.initrd,
        "-append",
        _kernel_options(node, emulated, vcpus),
    ]
    command += ["-drive", f"if=none,id=root,file={disk},format=qcow2,cache=unsafe,discard=unmap"]
    command += ["-device", "virtio-blk-pci,drive=root,bus=pcie.0"]
    command += ["-netdev", f"stream,id=net,server=off,addr.type=unix,addr.path={node.name}/{NETWORK_SOCKET}"]
    command += ["-device", f"virtio-net-pci,netdev=net,mac={mac_address(number)},romfile=,bus=pcie.0"]
    command += ["-device", "virtio-rng-pci,bus=pcie.0"]
    command += ["-serial", f"file:{console}", "-serial", f"unix:{node.name}/clock.sock,server=on,wait=off"]
    command += ["-qmp", f"unix:{node.name}/qmp.sock,server=on,wait=off"]
    if restored:
        command += ["-incoming", "defer"]
    for secret in secrets:
        command += ["-smbios", f"type=11,path={secret}"]
    return command + numa_options(node)


def numa_options(node: Node) -> list[str]:
    """Memory, CPUs and PCI bridges of each NUMA node.

    Memory is shared because vfio-user servers map it. Each NUMA node has a
    ``pxb-pcie`` host bridge; the root ports behind it get the following bus numbers.
    """
    options = []
    first_cpu = 0
    for numa in node.numa_nodes:
        memory = f"memory-backend-memfd,id=mem{numa.id},share=on,size={numa.memory}"
        cpus = f"cpus={first_cpu}-{first_cpu + numa.cpus - 1}"
        options += ["-object", memory, "-numa", f"node,nodeid={numa.id},memdev=mem{numa.id},{cpus}"]
        first_cpu += numa.cpus
    chassis = 0
    for numa in node.numa_nodes:
        bridge = f"pxb-pcie,id=pxb{numa.id},bus=pcie.0,bus_nr={numa.bus},numa_node={numa.wired_to}"
        options += ["-device", bridge]
        for slot in numa.slots:
            chassis += 1
            port = f"pcie-root-port,id={slot.root_port},bus=pxb{numa.id},chassis={chassis},slot={chassis}"
            options += ["-device", f"{port},pref64-reserve={_windows(slot)}"]
    return options


def _windows(slot: Slot) -> int:
    """Bytes of 64-bit, prefetchable addresses that the firmware leaves free behind a root port, for hot-plug.

    Twice the windows (BAR2) of the slot: of its functions, and those that the SR-IOV
    capability of a PF describes, which the kernel may allocate as well. The rest is
    space for alignment. For BAR0 of eight functions the firmware's default suffices.
    """
    return max(_LEAST_RESERVE, 2 * sum(function.window for function in slot.functions))
