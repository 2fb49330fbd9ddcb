"""Command line: one device, or all devices of a topology's node, in one process."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import topology
from mock_accel_server.device import UUID_BYTES, Device, DeviceSpec
from mock_accel_server.server import Server, SocketInUseError


def _uuid(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not 1 <= len(text) <= UUID_BYTES:
        raise argparse.ArgumentTypeError(f"expected 1 to {UUID_BYTES} printable ASCII characters, found {text!r}")
    return text


def _size(text: str) -> int:
    try:
        return topology.parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _capabilities(text: str) -> int:
    names = text.split(",")
    if "compute" not in names or any(name not in topology.CAPABILITIES for name in names):
        known = ",".join(topology.CAPABILITIES)
        raise argparse.ArgumentTypeError(f"expected names of {known}, always with compute, found {text!r}")
    return sum(topology.CAPABILITIES[name] for name in set(names))


def _total_vfs(text: str) -> int:
    if not text.isdecimal() or int(text) > 7:
        raise argparse.ArgumentTypeError(f"expected 0 to 7 (a slot has 8 functions), found {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mock_accel_server", description=__doc__)
    parser.add_argument("socket", nargs="?", type=Path, metavar="SOCKET", help="serve one device at this Unix socket")
    one = parser.add_argument_group("one device")
    one.add_argument("--uuid", type=_uuid, default="MOCK-0", help="up to 16 ASCII characters (default: %(default)s)")
    one.add_argument("--memory", type=_size, default="16G", help="such as 16G, 512M (default: %(default)s)")
    one.add_argument("--capabilities", type=_capabilities, default="compute", help="such as compute,encryption")
    one.add_argument("--vf", action="store_true", help="a virtual function")
    one.add_argument("--total-vfs", type=_total_vfs, default=0, help="VFs that follow this PF (default: 0)")
    one.add_argument("--multifunction", action="store_true", help="its slot has other functions too")
    many = parser.add_argument_group("all devices of a node")
    many.add_argument("--topology", type=Path, metavar="FILE", help="topology file")
    many.add_argument("--node", help="name of the node in the topology")
    many.add_argument("--socket-dir", type=Path, metavar="DIR", help="serve at DIR/<name>.sock, such as mock0_vf0.sock")
    parser.add_argument("--verbose", action="store_true", help="log every message to standard error")
    return parser


def _devices(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[Path, DeviceSpec]:
    """What to serve, by socket; bad usage ends the program with exit code 2."""
    group = (arguments.topology, arguments.node, arguments.socket_dir)
    if arguments.socket and any(group):
        parser.error("give either SOCKET or --topology with --node and --socket-dir")
    if arguments.socket:
        if arguments.vf and arguments.total_vfs:
            parser.error("--vf and --total-vfs: a virtual function has no VFs of its own")
        multifunction = arguments.multifunction or arguments.vf or arguments.total_vfs > 0
        spec = DeviceSpec(
            arguments.uuid, arguments.memory, arguments.capabilities, arguments.vf, arguments.total_vfs, multifunction
        )
        return {arguments.socket: spec}
    if not all(group):
        parser.error("expected SOCKET, or --topology with --node and --socket-dir")
    try:
        node = topology.load(arguments.topology).node(arguments.node)
    except topology.TopologyError as error:
        parser.error(str(error))
    except KeyError as error:
        parser.error(error.args[0])
    if not arguments.socket_dir.is_dir():
        parser.error(f"--socket-dir {arguments.socket_dir} is not a folder; make it first")
    folder: Path = arguments.socket_dir
    return {folder / f"{function.name}.sock": DeviceSpec.of(function) for function in node.functions}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; prints ``ready`` when every socket listens. Exit code 1 if one cannot."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s")
    devices = _devices(parser, arguments)
    server = Server()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    try:
        for path, spec in devices.items():
            server.add(path, Device(spec))
        print(f"ready\t{len(devices)}\t{arguments.socket or arguments.socket_dir}", flush=True)
        server.serve()
    except (SocketInUseError, OSError) as error:
        print(f"mock_accel_server: {error}", file=sys.stderr)
        return 1
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
