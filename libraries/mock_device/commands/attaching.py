"""Subcommands of ``lab`` for clusters that exist: ``attach``, ``detach``, ``topology discover``."""

from __future__ import annotations

from pathlib import Path

import click

from mock_device.commands import options

_enable_vfs = click.option(
    "--enable-vfs", is_flag=True, help="Enable VFs for a moment: the module shows values of enabled ones only."
)


@click.command()
@click.option("--profile", metavar="FILE", help="Profile of kind external; needed unless the cluster is attached.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be installed, but change nothing.")
@options.driver
@_enable_vfs
@options.name
def attach(profile: str | None, dry_run: bool, driver: str | None, enable_vfs: bool, name: str) -> int:
    """Use a cluster that exists: check it, install kernel module and driver, discover its devices."""
    from mock_device.diagnosis import health
    from mock_device.driver import current
    from mock_device.lab.base import progress, tables, timeouts
    from mock_device.lab.base.errors import StepError
    from mock_device.lab.base.tables import Note, Table
    from mock_device.lab.cluster import attached, attaching, drivers, inventory
    from mock_device.lab.cluster.attached import AttachedPaths
    from mock_device.tools import access_checks

    if profile is None:
        if not attached.is_attached(name):
            raise StepError(f"cluster {name!r} is not attached; name its profile: lab attach --profile FILE")
        profile = AttachedPaths.of(name).load().profile
    wanted = inventory.load(profile)
    timeouts.use_profile(wanted.timeout_factor)
    current.use(drivers.choose(driver))
    found = access_checks.check(wanted)
    tables.print_tables(access_checks.table(found), access_checks.plan(wanted))
    if problems := [item for item in found if item.problem]:
        raise StepError(f"{len(problems)} of {len(found)} checks of {wanted.path} failed; nothing was changed")
    if dry_run:
        return 0
    with progress.step(f"cluster {name} ({wanted.path.name})"):
        cluster = attaching.attach(name, wanted, enable_vfs=enable_vfs)
    places = Table((), [Note("logs", str(cluster.log_dir)), Note("kubeconfig", str(cluster.kubeconfig))])
    tables.print_tables(*health.tables(health.status_of(cluster)), places)
    return 0


@click.command()
@options.name
def detach(name: str) -> int:
    """Remove exactly what attaching a cluster has installed; exit code 1 if something is left."""
    from mock_device.lab.base import progress
    from mock_device.lab.cluster import detaching

    with progress.step(f"cluster {name} detached"):
        left = detaching.detach(name)
    print(f"{name}\tdetached")
    for reason in left:
        print(f"left\t{reason}")
    return 1 if left else 0


@click.group()
def topology() -> None:
    """Topologies: which nodes, NUMA nodes and devices a cluster has."""


@topology.command()
@click.option("--profile", metavar="FILE", help="Profile of kind external (default: the cluster of --name).")
@_enable_vfs
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
@options.name
def discover(profile: str | None, enable_vfs: bool, output: Path | None, name: str) -> None:
    """Write the topology of nodes that exist, from their PCI buses and the kernel module's sysfs."""
    from mock_device.lab.base import timeouts
    from mock_device.lab.base.files import write_file
    from mock_device.lab.cluster import client, discovery, inventory
    from mock_device.lab.cluster.ssh import runner

    if profile is None:
        cluster = client.attach(name, "lab topology discover")
        text = discovery.discover(
            name, [node.name for node in cluster.topology.nodes], runner(cluster.node), enable_vfs=enable_vfs
        )
    else:
        nodes = inventory.load(profile)
        timeouts.use_profile(nodes.timeout_factor)
        text = discovery.discover(nodes.path.stem, nodes.node_names, runner(nodes.node), enable_vfs=enable_vfs)
    if output:
        write_file(output, text)
    else:
        print(text, end="")
