"""Subcommands of ``lab`` for what is built and saved: ``build``, ``cache``, ``cache prune``."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mock_device.commands import options

if TYPE_CHECKING:
    from mock_device.commands.cache import Entry
    from mock_device.lab.base.tables import Table


def _qemu() -> str:
    from mock_device.lab.build.qemu_build import ensure_qemu

    return ensure_qemu().version


def _kubernetes() -> Path:
    from mock_device.lab.build.gobuild import build_embedded_k8s

    return build_embedded_k8s()


def _registry() -> Path:
    from mock_device.lab.build.gobuild import build_registry

    return build_registry()


def _node_image() -> Path:
    from mock_device.lab.build.node_image import build_node_image

    return build_node_image().disk


def _kmod_image() -> Path:
    from mock_device.lab.cluster import deploy

    return deploy.kmod_image()


def _driver_image() -> Path:
    from mock_device.lab.build import images

    return images.driver_image()


_BUILDS: dict[str, Callable[[], Path | str]] = {
    "qemu": _qemu,
    "kubernetes": _kubernetes,
    "registry": _registry,
    "node-image": _node_image,
    "kmod-image": _kmod_image,
    "driver-image": _driver_image,
}


@click.command()
@click.argument("what", nargs=-1, type=click.Choice(list(_BUILDS)))
@click.option("--kernel", metavar="RELEASE", help="kmod-image only: for this kernel of Debian, as uname -r prints it.")
def build(what: Sequence[str], kernel: str | None) -> None:
    """Build what a cluster needs, all or the named parts; cached artifacts are not built again."""
    from mock_device.lab.build import images, kbuild, prerequisites

    prerequisites.check()
    if kernel:
        if list(what) != ["kmod-image"]:
            raise click.UsageError("--kernel is for kmod-image only")
        print(f"kmod-image\t{images.kmod_image(kbuild.build_module_for(kernel), kernel)}")
        return
    for name in what or _BUILDS:
        print(f"{name}\t{_BUILDS[name]()}")


@click.group(invoke_without_command=True)
@options.as_json()
@click.pass_context
def cache(context: click.Context, as_json: bool) -> None:
    """List cached artifacts with their sizes, ages, and what needs them."""
    if context.invoked_subcommand is None:
        from mock_device.commands import cache as cached
        from mock_device.lab.base import tables

        tables.show(cached.entries(), partial(_table, total="total"), as_json=as_json)


@cache.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@options.as_json()
@click.pass_context
def prune(context: click.Context, dry_run: bool, as_json: bool) -> None:
    """Remove stale artifacts: those that no current source, running cluster or build needs."""
    from mock_device.commands import cache as cached
    from mock_device.lab.base import tables

    # It may stand before prune, too.
    as_json = as_json or bool(context.parent and context.parent.params["as_json"])
    found = cached.prune(dry_run=dry_run)
    tables.show(found, partial(_table, total="would be removed" if dry_run else "removed"), as_json=as_json)


def _table(found: Sequence[Entry], total: str) -> Table:
    from mock_device.lab.base.disk import mebibytes
    from mock_device.lab.base.tables import Note, Table

    rows: list[tuple[str, ...] | Note] = [
        (
            entry.kind,
            mebibytes(entry.size),
            f"{datetime.timedelta(seconds=int(entry.age))} ago",
            ", ".join(entry.needed_by) or "nothing",
            str(entry.path),
        )
        for entry in found
    ]
    rows.append(Note(total, f"{mebibytes(sum(entry.size for entry in found))} in {len(found)} folders"))
    headings = ("kind", "size", "last used", "needed by", "path") if found else ()
    return Table(headings, rows, right=("size", "last used"), wraps=("needed by",))
