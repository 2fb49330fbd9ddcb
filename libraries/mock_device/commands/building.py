"""Subcommands of ``lab`` for what is built and saved: ``build``, ``cache`` and its subcommands."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mock_device.commands import options

if TYPE_CHECKING:
    from mock_device.commands.cache import Entry
    from mock_device.commands.cache_transfer import Exported, Imported
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


def _tools_image() -> Path:
    from mock_device.lab.build import images, tools_program

    return images.tools_image(tools_program.program())


def _go_driver_image() -> Path:
    from mock_device.lab.build import gobuild, images

    return images.go_driver_image(gobuild.build_go_driver())


def _containerd() -> Path:
    from mock_device.lab.build.gobuild import build_containerd

    return build_containerd()


# Kubernetes compiles for minutes, in another process; what needs it comes last.
_BUILDS: dict[str, Callable[[], Path | str]] = {
    "qemu": _qemu,
    "containerd": _containerd,
    "kmod-image": _kmod_image,
    "driver-image": _driver_image,
    "tools-image": _tools_image,
    "registry": _registry,
    "kubernetes": _kubernetes,
    "node-image": _node_image,
}
# No cluster needs them; built only if they are named.
_EXAMPLES: dict[str, Callable[[], Path | str]] = {"go-driver-image": _go_driver_image}
_KUBERNETES = "kubernetes"


@contextmanager
def _kubernetes_meanwhile(names: Sequence[str]) -> Iterator[None]:
    """Build Kubernetes in another process while the other parts are built, if it is among ``names`` and not cached.

    The part ``kubernetes`` itself then waits for that process. If it failed, it builds again and says why.
    """
    from mock_device.lab.base.commands import interrupt
    from mock_device.lab.base.timeouts import Timeout
    from mock_device.lab.build.images import build_base_images
    from mock_device.lab.build.node_image import build_node_packages
    from mock_device.lab.build.store import NotCachedError, only_looking

    needed = _KUBERNETES in names and len(names) > 1
    with only_looking(), suppress(NotCachedError):
        needed = needed and not _kubernetes()
    if not needed:
        yield
        return
    # Its progress would mix with that of the other parts.
    argv = ["setpriv", "--pdeathsig", "INT", sys.executable, "-m", "mock_device.commands.cli", "build", _KUBERNETES]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if "node-image" in names:
            build_node_packages()
            build_base_images()
        yield
    finally:
        interrupt(child, Timeout.BUILD_END.seconds)


@click.command()
@click.argument("what", nargs=-1, type=click.Choice([*_BUILDS, *_EXAMPLES]))
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
    names = what or list(_BUILDS)
    with _kubernetes_meanwhile(names):
        for name in names:
            print(f"{name}\t{(_BUILDS | _EXAMPLES)[name]()}")


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

    found = cached.prune(dry_run=dry_run)
    total = "would be removed" if dry_run else "removed"
    tables.show(found, partial(_table, total=total), as_json=_wants_json(context, as_json))


@cache.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@options.as_json()
@click.pass_context
def export_file(context: click.Context, file: Path, as_json: bool) -> None:
    """Write what is built for the current sources to FILE, for other machines; no golden clusters."""
    from mock_device.commands import cache_transfer
    from mock_device.lab.base import tables

    tables.show(cache_transfer.export_to(file), _exported, as_json=_wants_json(context, as_json))


@cache.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@options.as_json()
@click.pass_context
def import_file(context: click.Context, file: Path, as_json: bool) -> None:
    """Add what the current sources need from FILE, which `lab cache export` wrote. Its programs run here: trust it."""
    from mock_device.commands import cache_transfer
    from mock_device.lab.base import tables

    tables.show(cache_transfer.import_from(file), _imported, as_json=_wants_json(context, as_json))


def _wants_json(context: click.Context, as_json: bool) -> bool:
    """Whether ``--json`` stands behind the subcommand or before it."""
    return as_json or bool(context.parent and context.parent.params["as_json"])


def _exported(done: Exported) -> Table:
    from mock_device.lab.base.disk import mebibytes
    from mock_device.lab.base.tables import Note, Table

    rows: list[tuple[str, ...] | Note] = [
        (item.kind, item.key, mebibytes(item.content.stored), mebibytes(item.packed)) for item in done.artifacts
    ]
    rows += [(*name.split("/"), "not built here") for name in done.missing]
    rows.append(Note("written", f"{mebibytes(done.size)} in {done.file}"))
    return Table(("kind", "key", "size", "packed"), rows, right=("size", "packed"))


def _imported(done: Imported) -> Table:
    from mock_device.lab.base.tables import Note, Table

    results = {
        "added": done.added,
        "kept: it was cached before": done.kept,
        "skipped: the current sources do not need it": done.skipped,
        "missing: built when it is needed": done.missing,
    }
    rows: list[tuple[str, ...] | Note] = [
        (*name.split("/"), result) for result, names in results.items() for name in names
    ]
    counts = (("added", done.added), ("kept", done.kept), ("skipped", done.skipped), ("missing", done.missing))
    rows.append(Note("total", ", ".join(f"{len(names)} {result}" for result, names in counts)))
    return Table(("kind", "key", "result"), rows)


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
