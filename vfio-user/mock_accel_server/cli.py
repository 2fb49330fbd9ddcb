"""Command line: one device from options, or all devices of a node from a topology file."""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
from pathlib import Path

from mock_accel_server.closing import allow_interrupts
from mock_accel_server.device import Device
from mock_accel_server.listener import ListenError
from mock_accel_server.registers import UUID_BYTES, Identity
from mock_accel_server.server import Server, share_evenly
from mock_device import topology

_MAX_VFS = 7  # a slot has eight functions, one of them the PF
_DEFAULT_MEMORY = {False: "16G", True: "2G"}
_EPILOG = """\
Prints one line, ready<TAB>NUMBER<TAB>SOCKET-OR-DIR, when every socket listens; messages go to stderr.
SIGTERM or SIGINT ends the server and removes the sockets. Exit code 0 after a signal, 1 if a socket is
not available, 2 for wrong options."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mock_accel_server",
        description="Serve mock PCI accelerators over vfio-user, one UNIX socket each.",
        usage="%(prog)s [options] SOCKET\n       %(prog)s --topology FILE --node NODE --socket-dir DIR [--verbose]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one = parser.add_argument_group("one device")
    one.add_argument("socket", metavar="SOCKET", nargs="?", type=Path, help="path of the UNIX socket to listen on")
    one.add_argument("--uuid", help=f"1 to {UUID_BYTES} printable ASCII characters (default: MOCK-PF or MOCK-VF)")
    one.add_argument("--memory", metavar="SIZE", help="like 16G or 512M (default: 16G; 2G for a VF)")
    one.add_argument(
        "--capabilities",
        metavar="LIST",
        help=f"some of {','.join(topology.CAPABILITIES)}; compute is always included (default: compute)",
    )
    one.add_argument("--vf", action="store_true", help="a virtual function")
    one.add_argument("--total-vfs", metavar="N", type=int, help=f"VFs of this physical function, 0 to {_MAX_VFS}")
    one.add_argument(
        "--multifunction",
        action="store_true",
        help="its slot has more than one function (implied by --vf and --total-vfs)",
    )
    many = parser.add_argument_group("all devices of a node, as DIR/<name>.sock")
    many.add_argument("--topology", metavar="FILE", type=Path, help="topology file, see docs/topologies.md")
    many.add_argument("--node", help="name of a node in FILE")
    many.add_argument("--socket-dir", metavar="DIR", type=Path, help="existing folder for the sockets")
    parser.add_argument("--verbose", action="store_true", help="show each message on stderr")
    return parser


def _fail(option: str, expected: str, found: object) -> ValueError:
    return ValueError(f"{option}: expected {expected}, found {found!r}")


def _capability_bits(text: str) -> int:
    names = [name.strip() for name in text.split(",")]
    bits = topology.CAPABILITIES["compute"]
    for name in names:
        if name not in topology.CAPABILITIES:
            raise _fail("--capabilities", f"names of {', '.join(topology.CAPABILITIES)}", name)
        bits |= topology.CAPABILITIES[name]
    return bits


def _identity(options: argparse.Namespace) -> Identity:
    """The device that the options describe. Raises ValueError."""
    uuid = options.uuid if options.uuid is not None else "MOCK-VF" if options.vf else "MOCK-PF"
    if not (uuid.isascii() and uuid.isprintable() and 1 <= len(uuid) <= UUID_BYTES):
        raise _fail("--uuid", f"1 to {UUID_BYTES} printable ASCII characters", uuid)
    try:
        memory = topology.parse_size(options.memory if options.memory is not None else _DEFAULT_MEMORY[options.vf])
    except ValueError as error:
        raise ValueError(f"--memory: {error}") from error
    total_vfs = options.total_vfs or 0
    if not 0 <= total_vfs <= _MAX_VFS:
        raise _fail("--total-vfs", f"0 to {_MAX_VFS}", total_vfs)
    if options.vf and options.total_vfs is not None:
        raise ValueError("--total-vfs: only a physical function has VFs; leave out --vf or --total-vfs")
    return Identity(
        name=options.socket.stem or str(options.socket),
        uuid=uuid,
        memory=memory,
        capability_bits=_capability_bits(options.capabilities if options.capabilities is not None else "compute"),
        is_vf=options.vf,
        total_vfs=total_vfs,
        multifunction=options.multifunction or options.vf or total_vfs > 0,
    )


def _of_topology(function: topology.Function) -> Identity:
    return Identity(
        name=function.name,
        uuid=function.uuid,
        memory=function.memory,
        capability_bits=function.capability_bits,
        is_vf=function.is_vf,
        total_vfs=function.total_vfs,
        multifunction=function.multifunction,
    )


def _devices(options: argparse.Namespace) -> tuple[Path, list[tuple[Path, Device]]]:
    """The path for the ready line, and each socket with its device. Raises ValueError."""
    many = {"--topology": options.topology, "--node": options.node, "--socket-dir": options.socket_dir}
    single = {
        "SOCKET": options.socket,
        "--uuid": options.uuid,
        "--memory": options.memory,
        "--capabilities": options.capabilities,
        "--vf": options.vf or None,
        "--total-vfs": options.total_vfs,
        "--multifunction": options.multifunction or None,
    }
    given_many = [name for name, value in many.items() if value is not None]
    given_single = [name for name, value in single.items() if value is not None]
    if given_many and given_single:
        raise ValueError(f"{given_many[0]} does not go with {given_single[0]}")
    if not given_many:
        if options.socket is None:
            raise ValueError("SOCKET is missing; or give --topology, --node and --socket-dir")
        return options.socket, [(options.socket, Device(_identity(options)))]
    if missing := [name for name in many if name not in given_many]:
        raise ValueError(f"{given_many[0]} needs {' and '.join(missing)} too")
    if not options.socket_dir.is_dir():
        raise _fail("--socket-dir", "an existing folder", str(options.socket_dir))
    try:
        node = topology.load(options.topology).node(options.node)
    except KeyError as error:
        raise ValueError(f"--node: {error.args[0]}") from error
    devices = [
        (options.socket_dir / f"{function.name}.sock", Device(_of_topology(function))) for function in node.functions
    ]
    return options.socket_dir, devices


def _allow_many_fds() -> None:
    """Raise the limit of open files: each client has a connection and may send file descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code is described in ``--help``."""
    parser = _parser()
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        where, devices = _devices(options)
    except ValueError as error:  # includes TopologyError
        parser.error(str(error))
    _allow_many_fds()
    allow_interrupts()
    share_evenly()
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: stop.append(caught))
    try:
        server = Server(devices)
    except ListenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
        if not stop:
            print(f"ready\t{len(devices)}\t{where}", flush=True)
            server.run()
    finally:
        signal.set_wakeup_fd(-1)
        server.close()
    return 0
