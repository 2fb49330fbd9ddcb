"""Command line: one device from options, or all devices of a node from a topology file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from mock_accel_server import control
from mock_accel_server.plan import SERVE, Plan
from mock_accel_server.registers import DEFAULT_WINDOW, UUID_BYTES, Identity
from mock_device import topology

_KEY_BYTES = 16, 4096
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
    one.add_argument("--window", metavar="SIZE", help=f"device memory, {topology.WINDOWS} (default: 1M)")
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
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        type=Path,
        help=f"secret with which devices sign, {_KEY_BYTES[0]} to {_KEY_BYTES[1]} bytes (default: random)",
    )
    parser.add_argument(
        "--control",
        metavar="SOCKET",
        type=Path,
        help=f"control socket for faults on demand (default: DIR/{control.NAME}; none for one device)",
    )
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
    window = _window(options.window) if options.window is not None else DEFAULT_WINDOW
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
        window=window,
    )


def _window(text: str) -> int:
    try:
        size = topology.parse_size(text)
    except ValueError as error:
        raise ValueError(f"--window: {error}") from error
    if not topology.is_window(size):
        raise _fail("--window", topology.WINDOWS, text)
    return size


def _of_topology(function: topology.Function) -> Identity:
    return Identity(
        name=function.name,
        uuid=function.uuid,
        memory=function.memory,
        capability_bits=function.capability_bits,
        is_vf=function.is_vf,
        total_vfs=function.total_vfs,
        multifunction=function.multifunction,
        window=function.window,
    )


def _secret(path: Path | None) -> bytes | None:
    """The whole content of the key file. Raises ValueError."""
    if path is None:
        return None
    low, high = _KEY_BYTES
    try:
        with path.open("rb") as file:
            secret = file.read(high + 1)
    except OSError as error:
        raise ValueError(f"--key-file: {path}: {error.strerror}") from error
    if not low <= len(secret) <= high:
        raise _fail("--key-file", f"a file of {low} to {high} bytes", f"{path} with {len(secret)} or more")
    return secret


def _plan(options: argparse.Namespace) -> Plan:
    """What the options ask for. Raises ValueError."""
    many = {"--topology": options.topology, "--node": options.node, "--socket-dir": options.socket_dir}
    single = {
        "SOCKET": options.socket,
        "--uuid": options.uuid,
        "--memory": options.memory,
        "--window": options.window,
        "--capabilities": options.capabilities,
        "--vf": options.vf or None,
        "--total-vfs": options.total_vfs,
        "--multifunction": options.multifunction or None,
    }
    secret = _secret(options.key_file) or os.urandom(_KEY_BYTES[0])
    given_many = [name for name, value in many.items() if value is not None]
    given_single = [name for name, value in single.items() if value is not None]
    if given_many and given_single:
        raise ValueError(f"{given_many[0]} does not go with {given_single[0]}")
    if not given_many:
        if options.socket is None:
            raise ValueError("SOCKET is missing; or give --topology, --node and --socket-dir")
        devices = [(options.socket, _identity(options))]
        return Plan(options.socket, devices, secret, options.control, options.verbose)
    if missing := [name for name in many if name not in given_many]:
        raise ValueError(f"{given_many[0]} needs {' and '.join(missing)} too")
    if not options.socket_dir.is_dir():
        raise _fail("--socket-dir", "an existing folder", str(options.socket_dir))
    try:
        node = topology.load(options.topology).node(options.node)
    except KeyError as error:
        raise ValueError(f"--node: {error.args[0]}") from error
    devices = [(options.socket_dir / f"{function.name}.sock", _of_topology(function)) for function in node.functions]
    return Plan(
        options.socket_dir, devices, secret, options.control or options.socket_dir / control.NAME, options.verbose
    )


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command; the exit code is described in ``--help``.

    The process goes on as ``serve``, without the memory that reading the options and the topology took.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        plan = _plan(options)
    except ValueError as error:  # includes TopologyError
        parser.error(str(error))
    command = [sys.executable, "-m", SERVE, str(plan.pass_on()), *(sys.argv[1:] if argv is None else argv)]
    os.execv(command[0], command)
