"""Shows all clusters of this cache, once or live: a table on a terminal, else tab-separated lines or JSON."""

from __future__ import annotations

import asyncio
import datetime
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from mock_device.commands.overview import ClusterView, Overview
from mock_device.lab.base.disk import mebibytes
from mock_device.lab.base.tables import Table, for_people, to_json

NOTHING_RUNS = "no cluster runs; start one: lab up"
_HEADINGS = (
    "cluster",
    "topology",
    "Kubernetes",
    "state",
    "since",
    "held by",
    "memory",
    "guests",
    "control plane",
    "died",
)
_STYLES = {"running": "green", "starting": "yellow", "failed": "red", "no answer": "red"}

Show = Callable[[Sequence[ClusterView]], None]


def table(clusters: Sequence[ClusterView]) -> Table:
    """One row per cluster, with its start time."""
    return _table(clusters, _since)


def _table(clusters: Sequence[ClusterView], since: Callable[[ClusterView], str]) -> Table:
    rows = [
        tuple(
            _one_line(cell) or "-"
            for cell in (
                cluster.name,
                cluster.topology,
                cluster.kubernetes,
                _state(cluster),
                since(cluster),
                _holders(cluster),
                *(mebibytes(size) for size in (cluster.memory.total, cluster.memory.guests)),
                mebibytes(cluster.memory.control_plane),
                ", ".join(cluster.died),
            )
        )
        for cluster in clusters
    ]
    return Table(
        _HEADINGS,
        rows,
        empty=NOTHING_RUNS,
        right=("memory", "guests", "control plane"),
        wraps=("state", "held by", "died"),
        styles=_STYLES,
    )


def _state(cluster: ClusterView) -> str:
    return f"{cluster.state}: {cluster.detail}" if cluster.detail else cluster.state


def _holders(cluster: ClusterView) -> str:
    return "; ".join(cluster.holders) or ("nobody, stays" if cluster.stays else "nobody")


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _clock(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _since(cluster: ClusterView) -> str:
    return _clock(cluster.started) if cluster.started else "-"


def _elapsed(seconds: float) -> str:
    """``2:03:04``; not negative if the clock was set back."""
    return str(datetime.timedelta(seconds=max(0, int(seconds))))


def on_terminal(clusters: Sequence[ClusterView], now: float, width: int) -> RenderableType:
    """The table with the time since each start; ``now`` is in seconds since the epoch, ``width`` in characters."""
    if not clusters:
        return Text(NOTHING_RUNS)
    table = _table(clusters, lambda cluster: _elapsed(now - cluster.started) if cluster.started else "-")
    return table.on_terminal(width, caption=f"{_clock(now)}, Ctrl-C ends")


def watch(interval: float, *, as_json: bool) -> None:
    """Show all clusters every ``interval`` seconds until SIGINT (Ctrl-C) or SIGTERM.

    Raises BrokenPipeError when the reader of standard output has gone.
    """
    with ExitStack() as stack:
        show: Show
        if as_json:
            show = _print_json
        elif for_people():
            console = Console()
            live = stack.enter_context(Live(console=console, auto_refresh=False))
            show = lambda clusters: live.update(  # noqa: E731
                on_terminal(clusters, time.time(), console.width), refresh=True
            )
        else:
            show = _print_text
        asyncio.run(_watch(interval, show))


def _print_json(clusters: Sequence[ClusterView]) -> None:
    print(to_json({"time": time.time(), "clusters": clusters}, one_line=True), flush=True)


def _print_text(clusters: Sequence[ClusterView]) -> None:
    print(f"{_clock(time.time())}\n{table(clusters).as_text()}\n", flush=True)


async def _watch(interval: float, show: Show) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with Overview() as overview:
            while True:
                begin = loop.time()
                show(await overview.look())
                await asyncio.sleep(max(0.0, interval - (loop.time() - begin)))
    except asyncio.CancelledError:
        return
