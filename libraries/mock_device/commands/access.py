"""Subcommands of ``lab`` that work on a running cluster: a shell on a node, kubectl, Helm, images, the driver."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from mock_device.commands import options


@click.command(context_settings={"allow_interspersed_args": False})
@options.name
@options.of_node
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def ssh(name: str, node: str, command: Sequence[str]) -> int:
    """Open a shell on a node, or run one command there."""
    from mock_device.lab.cluster import client
    from mock_device.lab.cluster import ssh as node_ssh

    cluster = client.attach(name, "lab ssh")
    # As ssh(1) does: several words are one line for a shell.
    words = ["sh", "-c", " ".join(command)] if command else []
    return _hand_over(node_ssh.argv(cluster.node(node), words))


@click.command()
@options.name
def kubeconfig(name: str) -> None:
    """Print the path of an administrator's kubeconfig."""
    from mock_device.lab.cluster import client

    print(client.attach(name, "lab kubeconfig").kubeconfig)


# -h is no option of these commands: click would find it in kubectl's -nhere.
_PASS_ON = {
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
    "help_option_names": ["--help"],
}
_words = click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT]...")


@click.command(context_settings=_PASS_ON)
@options.name
@_words
@click.pass_context
def kubectl(context: click.Context, name: str, command: Sequence[str]) -> int:
    """Run kubectl as an administrator."""
    from mock_device.lab.build import gobuild

    return _run_on(context, name, lambda: str(gobuild.build_embedded_k8s() / "kubectl"), command)


@click.command(context_settings=_PASS_ON)
@options.name
@_words
@click.pass_context
def helm(context: click.Context, name: str, command: Sequence[str]) -> int:
    """Run Helm as an administrator: that of HELM, else the lab's own."""
    from mock_device.lab.build import chart

    return _run_on(context, name, chart.helm_program, command)


def _run_on(context: click.Context, name: str, program: Callable[[], str], command: Sequence[str]) -> int:
    """Run a client of the API on cluster ``name``; its exit code."""
    if command[:1] == ("-h",):
        click.echo(context.get_help())
        return 0
    from mock_device.lab.cluster import client

    cluster = client.attach(name, f"lab {context.info_name}")
    return _hand_over([program(), *command], KUBECONFIG=str(cluster.kubeconfig))


def _hand_over(command: Sequence[str], **environment: str) -> int:
    """Run ``command`` with the descriptors of this process, as a shell makes them for ``<(…)``; its exit code."""
    return subprocess.run(command, env={**os.environ, **environment}, close_fds=False, check=False).returncode


@click.command()
@options.name
@click.argument("archive", type=click.Path(path_type=Path))
def load_image(name: str, archive: Path) -> None:
    """Put a container image (docker-archive tar) on every node."""
    from mock_device.lab.base import progress
    from mock_device.lab.cluster import client, deploy

    cluster = client.attach(name, "lab load-image")
    with progress.step(f"{archive} on {len(cluster.topology.nodes)} nodes", cluster.log_dir):
        deploy.load_image(cluster, archive)


@click.command()
@click.option("--undo", is_flag=True, help="Remove the driver instead.")
@options.name
def deploy(undo: bool, name: str) -> None:
    """Install the DRA driver, whose image the nodes already have."""
    from mock_device.lab.base import progress
    from mock_device.lab.cluster import client
    from mock_device.lab.cluster import deploy as deployment

    cluster = client.attach(name, "lab deploy")
    with progress.step("DRA driver removed" if undo else "DRA driver deployed", cluster.log_dir):
        if undo:
            deployment.remove_driver(cluster)
        else:
            deployment.install_driver(cluster)
            deployment.wait_published(cluster)
