"""Subcommands of ``lab`` for a cluster's life: ``up``, ``down``, ``status``, ``clusters``."""

from __future__ import annotations

import math

import click

from mock_device.commands import options
from mock_device.lab.base.defaults import DEFAULT_TOPOLOGY

_MIN_INTERVAL_SECONDS = 0.5
_INTERVAL_SECONDS = 1.0


@click.command()
@options.topologies(default=DEFAULT_TOPOLOGY)
@options.profile
@options.driver
@options.module_loader
@click.option("--cold", is_flag=True, help="Boot the cluster instead of restoring a saved one.")
@options.internet
@options.name
def up(
    topology: str, profile: str, driver: str | None, module_loader: str | None, cold: bool, internet: bool, name: str
) -> None:
    """Start a cluster with kernel module, DRA driver and devices; it runs until 'lab down'."""
    from mock_device.diagnosis import health
    from mock_device.lab.base import progress, tables
    from mock_device.lab.base.tables import Note, Table
    from mock_device.lab.build import prerequisites
    from mock_device.lab.cluster import client
    from mock_device.lab.cluster.loader_settings import LoaderKind

    prerequisites.check()
    with progress.step(f"cluster {name} ({topology})"):
        loader = LoaderKind(module_loader) if module_loader else None
        cluster = client.up(
            topology, name, profile=profile, cold=cold, internet=internet, module_loader=loader, driver=driver
        )
    cluster.stay()
    places = Table((), [Note("logs", str(cluster.log_dir)), Note("kubeconfig", str(cluster.kubeconfig))])
    tables.print_tables(*health.tables(health.status_of(cluster)), places)


@click.command()
@options.name
def down(name: str) -> None:
    """Stop a cluster; only its logs are kept."""
    from mock_device.lab.base.errors import StepError
    from mock_device.lab.cluster import attached, launcher

    if attached.is_attached(name):
        raise StepError(f"cluster {name!r} is attached, the lab has not started it; use: lab detach --name {name}")
    stopped = launcher.stop(name)
    print(f"{name}\t{'stopped' if stopped else 'was not running'}")


def _interval(value: str | float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not _MIN_INTERVAL_SECONDS <= seconds < math.inf:
        raise click.BadParameter(f"expected {_MIN_INTERVAL_SECONDS} s or more, found {value!r}")
    return seconds


@click.command()
@options.as_json("Print JSON; with --watch one document a line.")
@click.option("--watch", is_flag=True, help="Show all clusters instead, live, until Ctrl-C.")
@click.option(
    "--interval",
    type=_interval,
    default=_INTERVAL_SECONDS,
    metavar="SECONDS",
    help=f"Time between two updates of --watch, {_MIN_INTERVAL_SECONDS} or more (default: {_INTERVAL_SECONDS}).",
)
@options.name
def status(as_json: bool, watch: bool, interval: float, name: str) -> int:
    """Show guests, nodes, module, devices and driver pods; exit code 1 if the cluster is unhealthy."""
    from mock_device.commands import watching
    from mock_device.diagnosis import health
    from mock_device.lab.base import tables
    from mock_device.lab.cluster import client

    if watch:
        watching.watch(interval, as_json=as_json)
        return 0
    found = health.status_of(client.attach(name, "lab status"))
    tables.show(found, health.tables, as_json=as_json)
    return 0 if found.healthy else 1


@click.command()
@options.as_json()
def clusters(as_json: bool) -> None:
    """List all clusters that run: who holds them, how much memory they take."""
    from mock_device.commands import overview, watching
    from mock_device.lab.base import tables

    tables.show(overview.look(), watching.table, as_json=as_json)
