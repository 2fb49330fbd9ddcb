"""Subcommands of ``lab`` that work on a running cluster: a shell on a node, kubectl, Helm, images, the driver."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from mock_device.commands import options

if TYPE_CHECKING:
    from mock_device.lab.base.tables import Table
    from mock_device.lab.cluster.image_loading import Loaded
    from mock_device.lab.cluster.registry import Registry


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
@click.option("--as", "image", metavar="NAME:TAG", default="", help="Name of the image on the nodes.")
@options.as_json()
@options.name
@click.argument("source", metavar="ARCHIVE|LAYOUT|REFERENCE", type=click.Path())
def load_image(image: str, as_json: bool, name: str, source: str) -> None:
    """Put a container image on every node.

    It is a docker archive or an OCI archive (also compressed by gzip, also a pipe), a folder with an OCI layout, or a
    reference, which skopeo pulls on this machine: NAME:TAG from a registry, docker-daemon:NAME:TAG from Docker,
    containers-storage:NAME:TAG from podman.
    """
    from mock_device.lab.base import progress, tables
    from mock_device.lab.cluster import client, image_loading

    cluster = client.attach(name, "lab load-image")
    with progress.step(f"{source} on {len(cluster.topology.nodes)} nodes", cluster.log_dir):
        loaded = image_loading.load(cluster, source, image)
    tables.show(loaded, _table_of_loaded, as_json=as_json)


def _table_of_loaded(loaded: Sequence[Loaded]) -> Table:
    from mock_device.lab.base.disk import mebibytes
    from mock_device.lab.base.tables import Table

    rows = [(one.node, one.image, mebibytes(one.transferred), f"{one.seconds:.1f} s") for one in loaded]
    return Table(("node", "image", "transferred", "time"), rows, right=("transferred", "time"))


@click.command()
@options.as_json()
@options.name
def registry(as_json: bool, name: str) -> None:
    """Show the cluster's registry: its names, and the images in it.

    It runs as long as the cluster. Push by docker push 127.0.0.1:PORT/IMAGE, or skopeo copy --dest-tls-verify=false
    SOURCE docker://127.0.0.1:PORT/IMAGE; pods use either of its names. An image that is pushed under the name of
    another registry, such as 127.0.0.1:PORT/registry.example/app:1, is what pods get for registry.example/app:1.
    """
    from mock_device.lab.base import tables
    from mock_device.lab.cluster import client
    from mock_device.lab.cluster import registry as registries

    cluster = client.attach(name, "lab registry")
    tables.show(registries.look(cluster.guests), _tables_of_registry, as_json=as_json)


def _tables_of_registry(found: Registry) -> Sequence[Table]:
    from mock_device.lab.base.tables import Note, Table

    names = Table((), [Note("push to", found.push), Note("pull from", found.pull)])
    return [names, Table(("image",), [(image,) for image in found.images], empty="no images")]


@click.command()
@click.option("--undo", is_flag=True, help="Remove the driver instead.")
@options.driver
@options.name
def deploy(undo: bool, driver: str | None, name: str) -> None:
    """Install a DRA driver, by default the cluster's own; another one is installed beside it."""
    from mock_device.driver import current
    from mock_device.lab.base import progress
    from mock_device.lab.cluster import client, drivers, image_loading
    from mock_device.lab.cluster import deploy as deployment

    chosen = drivers.choose(driver)
    # Built before the cluster waits for it.
    if chosen and not undo:
        deployment.driver_archives(chosen)
    cluster = client.attach(name, "lab deploy", any_driver=True)
    used, others = current.driver(), [item for item in cluster.drivers if item.path != current.driver().path]
    if undo:
        with progress.step(f"DRA driver {used.name} removed", cluster.log_dir):
            done = deployment.remove_driver(cluster, used)
        # The last one is remembered: it is deployed again by default.
        if others:
            cluster.record_drivers(others)
        print("\n".join(done))
        return
    with progress.step(f"DRA driver {used.name} deployed", cluster.log_dir):
        if used not in cluster.drivers:
            for archive in deployment.driver_archives(used):
                image_loading.load(cluster, archive)
        deployment.install_driver(cluster, used)
        if used not in cluster.drivers:
            cluster.record_drivers([*others, used])
        deployment.wait_published(cluster, used)
