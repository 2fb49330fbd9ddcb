"""Options and arguments that several commands share, and what a shell completes them with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mock_device.lab.base.defaults import DEFAULT_NAME, DEFAULT_PROFILE
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import driver_names, profile_names, topology_names

if TYPE_CHECKING:
    from mock_device.topology import Node

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


def _names_or_files(names: list[str], incomplete: str) -> list[CompletionItem]:
    """``names`` that begin with ``incomplete``; files if none does."""
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _complete_topology(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Topologies of the project, else files."""
    return _names_or_files(topology_names(), incomplete)


def _complete_profile(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names_or_files(profile_names(), incomplete)


def _complete_driver(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names_or_files(driver_names(), incomplete)


def _complete_cluster(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from mock_device.commands import overview

    return _that_begin(incomplete, overview.running())


def complete_node(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Nodes of the running cluster that the command line names, from its copy of the topology."""
    return _that_begin(incomplete, (node.name for node in _nodes(context)))


def complete_device(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Devices of the node that the command line names, enabled or not."""
    nodes = [node for node in _nodes(context) if node.name == context.params.get("node")]
    return _that_begin(incomplete, (function.name for node in nodes for function in node.functions))


def _that_begin(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _nodes(context: click.Context) -> Sequence[Node]:
    from mock_device import topology
    from mock_device.lab.base.spec import ClusterPaths
    from mock_device.lab.cluster import attached

    name = context.params.get("name") or DEFAULT_NAME
    path = attached.AttachedPaths.of(name).topology if attached.is_attached(name) else ClusterPaths.of(name).topology
    try:
        return topology.load(path).nodes
    except (OSError, topology.TopologyError):
        return []


name = click.option(
    "--name",
    default=DEFAULT_NAME,
    metavar="NAME",
    shell_complete=_complete_cluster,
    help=f"The cluster's name; LAB_CLUSTER sets it, too (default: {DEFAULT_NAME}).",
)
profile = click.option(
    "--profile",
    default=DEFAULT_PROFILE,
    metavar="NAME-OR-FILE",
    shell_complete=_complete_profile,
    help=f"Name in variables, or the path of a .yaml file (default: {DEFAULT_PROFILE}).",
)
driver = click.option(
    "--driver",
    metavar="NAME-OR-FILE",
    shell_complete=_complete_driver,
    help="DRA driver: a name in variables/drivers, or the path of a .yaml file; LAB_DRIVER sets it, too.",
)
internet = click.option("--internet", is_flag=True, help="Let guests reach the outside (user-mode NAT by passt).")
module_loader = click.option(
    "--module-loader",
    type=click.Choice(["pod", "kmm"]),
    help="What loads the kernel module: pods of this project, or the KMM operator (default: the profile's).",
)
node = click.option("--node", metavar="NODE", shell_complete=complete_node, help="Only this node.")
of_node = click.argument("node", metavar="NODE", shell_complete=complete_node)
suites_and_options = click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SUITE]... [-- OPTION_OF_ROBOT...]"
)


def as_json(help_text: str = "Print JSON.") -> Callable[[Decorated], Decorated]:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def topologies(*, many: bool = False, default: str) -> Callable[[Decorated], Decorated]:
    """``--topology``, once or ``many`` times; ``default`` is for the help text."""
    repeat = "; repeat it for suites that need what the first one lacks" if many else ""
    return click.option(
        "--topology",
        multiple=many,
        default=None if many else default,
        metavar="NAME-OR-FILE",
        shell_complete=_complete_topology,
        help=f"Name in variables/topologies, or the path of a .yaml file{repeat} (default: {default}).",
    )


def clusters(most: int | None = None, default: int = 2) -> Callable[[Decorated], Decorated]:
    """``--clusters``, a number up to ``most``."""
    return click.option(
        "--clusters",
        type=number(1, most),
        default=default,
        metavar="N",
        help=f"How many may run at once{f', 1 to {most}' if most else ''} (default: {default}).",
    )


def outputdir(default: Path) -> Callable[[Decorated], Decorated]:
    """``--outputdir``, a folder below the project by default."""
    return click.option(
        "--outputdir",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        metavar="FOLDER",
        help=f"Folder of the results (default: {default.relative_to(PROJECT)}).",
    )


def number(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """Type of an option that takes a whole number."""

    def convert(value: str | int) -> int:
        text = str(value)
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            wanted = f"from {least} to {most}" if most is not None else f"from {least}"
            raise click.BadParameter(f"expected a number {wanted}, found {text!r}")
        return int(text)

    return convert


def _minutes(value: str | float) -> float:
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if not 0 < found <= 24 * 60:
        raise click.BadParameter(f"expected minutes, up to a day, found {value!r}")
    return found


minutes_of_a_round = click.option(
    "--minutes",
    type=_minutes,
    default=180.0,
    metavar="N",
    help="Wall time after which a round is ended (default: 180).",
)
