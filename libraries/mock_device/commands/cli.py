"""The ``lab`` command: clusters of mock accelerators, from the command line."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mock_device.checks import health
from mock_device.checks.health import as_text
from mock_device.commands import cache, overview, watching
from mock_device.commands.tools import add_commands
from mock_device.lab.base import disk, output, progress
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import images, prerequisites
from mock_device.lab.build.gobuild import build_embedded_k8s
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.qemu_build import ensure_qemu
from mock_device.lab.cluster import client, deploy, launcher, ssh
from mock_device.lab.cluster.client import DEFAULT_NAME, DEFAULT_PROFILE, DEFAULT_TOPOLOGY
from mock_device.lab.kube.kubeclient import refusal
from mock_device.topology import TopologyError

_INTERRUPTED = 130
_INTERVAL_SECONDS = 1.0


def _up(arguments: argparse.Namespace) -> int:
    prerequisites.check()
    with progress.step(f"cluster {arguments.name} ({arguments.topology})"):
        cluster = client.up(arguments.topology, arguments.name, profile=arguments.profile, cold=arguments.cold)
    cluster.stay()
    print(as_text(health.collect(cluster)))
    print(f"logs\t{cluster.log_dir}\nkubeconfig\t{cluster.kubeconfig}")
    cluster.release()
    return 0


def _down(arguments: argparse.Namespace) -> int:
    stopped = launcher.stop(arguments.name)
    print(f"{arguments.name}\t{'stopped' if stopped else 'was not running'}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    if arguments.watch:
        watching.watch(arguments.interval, as_json=arguments.json)
        return 0
    cluster = client.attach(arguments.name, "lab status")
    status = health.collect(cluster)
    print(json.dumps(asdict(status), indent=1) if arguments.json else as_text(status))
    return 0 if status.healthy else 1


def _clusters(arguments: argparse.Namespace) -> int:
    clusters = overview.look()
    if arguments.json:
        print(json.dumps([cluster.as_dict() for cluster in clusters], indent=1))
    else:
        print(watching.as_text(clusters))
    return 0


def _ssh(arguments: argparse.Namespace) -> int:
    cluster = client.attach(arguments.name, "lab ssh")
    # As ssh(1) does: several words are one line for a shell.
    command = ["sh", "-c", " ".join(arguments.command)] if arguments.command else []
    return _hand_over(ssh.argv(cluster.node(arguments.node), command))


def _kubeconfig(arguments: argparse.Namespace) -> int:
    print(client.attach(arguments.name, "lab kubeconfig").kubeconfig)
    return 0


def _kubectl(arguments: argparse.Namespace) -> int:
    cluster = client.attach(arguments.name, "lab kubectl")
    command = [str(build_embedded_k8s() / "kubectl"), *arguments.command[1:]]
    return _hand_over(command, KUBECONFIG=str(cluster.kubeconfig))


def _hand_over(command: Sequence[str], **environment: str) -> int:
    """Run ``command`` on what this process was given, its exit code; a shell gives descriptors for ``<(…)``."""
    return subprocess.run(command, env={**os.environ, **environment}, close_fds=False, check=False).returncode


def _build(arguments: argparse.Namespace) -> int:
    prerequisites.check()
    for what in arguments.what or list(_BUILDS):
        print(f"{what}\t{_BUILDS[what]()}")
    return 0


def _load_image(arguments: argparse.Namespace) -> int:
    cluster = client.attach(arguments.name, "lab load-image")
    with progress.step(f"{arguments.archive} on {len(cluster.topology.nodes)} nodes", cluster.log_dir):
        deploy.load_image(cluster, arguments.archive)
    return 0


def _deploy(arguments: argparse.Namespace) -> int:
    cluster = client.attach(arguments.name, "lab deploy")
    with progress.step("DRA driver removed" if arguments.undo else "DRA driver deployed", cluster.log_dir):
        if arguments.undo:
            deploy.remove_driver(cluster)
        else:
            deploy.install_driver(cluster)
            deploy.wait_published(cluster)
    return 0


def _cache(arguments: argparse.Namespace) -> int:
    return _show_entries(cache.entries(), "total", as_json=arguments.json)


def _prune(arguments: argparse.Namespace) -> int:
    found = cache.prune(dry_run=arguments.dry_run)
    return _show_entries(found, "would be removed" if arguments.dry_run else "removed", as_json=arguments.json)


def _show_entries(found: Sequence[cache.Entry], total: str, *, as_json: bool) -> int:
    if as_json:
        fields = ({**asdict(entry), "kind": entry.kind, "path": str(entry.path)} for entry in found)
        print(json.dumps(list(fields), indent=1))
        return 0
    if found:
        print("kind\tsize\tlast used\tneeded by\tpath")
    for entry in found:
        age = datetime.timedelta(seconds=int(entry.age))
        users = ", ".join(entry.needed_by) or "nothing"
        print(f"{entry.kind}\t{disk.mebibytes(entry.size)}\t{age} ago\t{users}\t{entry.path}")
    print(f"{total}\t{disk.mebibytes(sum(entry.size for entry in found))} in {len(found)} folders")
    return 0


_BUILDS: dict[str, Callable[[], Path | str]] = {
    "qemu": lambda: ensure_qemu().version,
    "kubernetes": build_embedded_k8s,
    "node-image": lambda: build_node_image().disk,
    "kmod-image": deploy.kmod_image,
    "driver-image": images.driver_image,
}


def _buildable(name: str) -> str:
    # Not argparse's choices: Python 3.11 refuses an empty list of arguments then.
    if name not in _BUILDS:
        raise argparse.ArgumentTypeError(f"expected {', '.join(_BUILDS)}, found {name!r}")
    return name


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not watching.MIN_INTERVAL_SECONDS <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected {watching.MIN_INTERVAL_SECONDS} s or more, found {text!r}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add_unnamed(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = add_unnamed(name, run, text)
        command.add_argument(
            "--name", default=DEFAULT_NAME, help="the cluster's name (default: %(default)s; LAB_CLUSTER)"
        )
        return command

    up = add("up", _up, "Start a cluster with kernel module, DRA driver and devices; it stays until 'lab down'.")
    up.add_argument(
        "--topology",
        default=DEFAULT_TOPOLOGY,
        help="name in variables/topologies, or the path of a .yaml file (default: %(default)s)",
    )
    up.add_argument(
        "--profile",
        default=DEFAULT_PROFILE,
        help="name in variables, or the path of a .yaml file (default: %(default)s)",
    )
    up.add_argument("--cold", action="store_true", help="boot it, instead of restoring a saved one")
    add("down", _down, "Stop a cluster; nothing of it stays but its logs.")
    status = add("status", _status, "Show guests, nodes, module, devices and driver pods; exit code 1 if unhealthy.")
    status.add_argument("--json", action="store_true", help="machine-readable; with --watch one document a line")
    status.add_argument("--watch", action="store_true", help="show all clusters instead, live, until Ctrl-C")
    status.add_argument(
        "--interval",
        type=_interval,
        default=_INTERVAL_SECONDS,
        metavar="SECONDS",
        help=f"between two looks of --watch, {watching.MIN_INTERVAL_SECONDS} or more (default: %(default)s)",
    )
    clusters = add_unnamed("clusters", _clusters, "List all clusters that run: who holds them, what they take.")
    clusters.add_argument("--json", action="store_true", help="machine-readable")
    shell = add("ssh", _ssh, "A shell on a node, or one command there.")
    shell.add_argument("node", metavar="NODE")
    shell.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    add("kubeconfig", _kubeconfig, "Print the path of a kubeconfig for an administrator.")
    kubectl = add("kubectl", _kubectl, "Run kubectl as an administrator.")
    kubectl.add_argument("command", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    build = add("build", _build, "Build what a cluster needs, all or the named parts; what is cached is kept.")
    build.add_argument("what", nargs="*", type=_buildable, metavar="|".join(_BUILDS))
    cache_command = add_unnamed("cache", _cache, "List what is built and saved, with sizes, ages, and what needs it.")
    cache_command.add_argument("--json", action="store_true", help="machine-readable")
    text = "Remove what neither today's inputs nor a running cluster nor a build needs."
    prune = cache_command.add_subparsers(metavar="[prune]").add_parser("prune", help=text, description=text)
    prune.set_defaults(run=_prune)
    prune.add_argument("--dry-run", action="store_true", help="only list it")
    # Without a default of its own: the one above may have been given already.
    prune.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="machine-readable")
    load = add("load-image", _load_image, "Put a container image (docker-archive tar) on every node.")
    load.add_argument("archive", type=Path)
    deploy_command = add("deploy", _deploy, "Install the DRA driver; the cluster has its image already.")
    deploy_command.add_argument("--undo", action="store_true", help="remove the driver instead")
    add_commands(add)
    return parser


def _separated(argv: Sequence[str]) -> list[str]:
    """``argv`` with ``--`` before what is kubectl's: argparse takes an option that comes first for its own."""
    start = 1
    while start < len(argv) and argv[start].startswith("--name"):
        start += 1 if "=" in argv[start] else 2
    if argv[:1] != ["kubectl"] or argv[start : start + 1] in (["-h"], ["--help"]):
        return list(argv)
    return [*argv[:start], "--", *argv[start:]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit code 1 for a step that failed, 2 for bad usage, 130 after Ctrl-C."""
    return output.while_it_is_read(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(_separated(list(sys.argv[1:] if argv is None else argv)))
    try:
        result: int = arguments.run(arguments)
    except (StepError, TopologyError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"lab: {error.args[0]}", file=sys.stderr)
        return 1
    except OSError as error:
        if not disk.says_full(error):
            raise
        print(f"lab: the disk is full, see: lab cache\n  {error}", file=sys.stderr)
        return 1
    except HTTPError as error:
        print(f"lab: the cluster's API server does not answer, see: lab status\n  {error}", file=sys.stderr)
        return 1
    except ApiException as error:
        print(f"lab: the cluster's API server says {refusal(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; what was started for this command is stopped", file=sys.stderr)
        return _INTERRUPTED
    return result


if __name__ == "__main__":
    sys.exit(main())
