"""Shows all clusters of this cache, once or live: on a terminal a table, elsewhere tab-separated lines or JSON."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mock_device.commands.overview import ClusterView, Overview
from mock_device.lab.base.disk import mebibytes

MIN_INTERVAL_SECONDS = 0.5
NOTHING_RUNS = "no cluster runs; start one: lab up"
_HEADING = "cluster\ttopology\tstate\tsince\theld by\tmemory\tguests\tcontrol plane\tdied"
_STYLES = {"running": "green", "starting": "yellow", "failed": "red", "no answer": "red"}

Show = Callable[[Sequence[ClusterView]], None]


def as_text(clusters: Sequence[ClusterView]) -> str:
    """Tab-separated lines with a heading, or that no cluster runs."""
    if not clusters:
        return NOTHING_RUNS
    lines = [_HEADING]
    for cluster in clusters:
        memory = cluster.memory
        cells = [cluster.name, cluster.topology or "-", _state(cluster), _since(cluster), _holders(cluster)]
        cells += [mebibytes(size) for size in (memory.total, memory.guests, memory.control_plane)]
        lines.append("\t".join([*map(_one_line, cells), _one_line(", ".join(cluster.died)) or "-"]))
    return "\n".join(lines)


def as_json_line(clusters: Sequence[ClusterView], now: float) -> str:
    """One JSON document without line breaks; ``now`` is in seconds since the epoch."""
    return json.dumps({"time": now, "clusters": [cluster.as_dict() for cluster in clusters]})


def as_table(clusters: Sequence[ClusterView], now: float) -> Table | Text:
    """For a terminal; ``now`` is in seconds since the epoch."""
    if not clusters:
        return Text(NOTHING_RUNS)
    table = Table(caption=f"{_clock(now)}, Ctrl-C ends", caption_justify="left")
    for heading in ("cluster", "topology", "state", "since", "held by"):
        table.add_column(heading)
    for heading in ("memory", "guests", "control plane"):
        table.add_column(heading, justify="right")
    table.add_column("died", style="red")
    for cluster in clusters:
        memory = cluster.memory
        table.add_row(
            Text(cluster.name),
            Text(cluster.topology),
            Text(_state(cluster), style=_STYLES.get(cluster.state, "")),
            _elapsed(now - cluster.started) if cluster.started else "",
            Text("\n".join(cluster.holders) or _holders(cluster)),
            *(mebibytes(size) for size in (memory.total, memory.guests, memory.control_plane)),
            Text("\n".join(cluster.died)),
        )
    return table


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
    """``2:03:04``, also for a clock that was set back meanwhile."""
    return str(datetime.timedelta(seconds=max(0, int(seconds))))


def watch(interval: float, *, as_json: bool) -> None:
    """Show all clusters every ``interval`` seconds until SIGINT (Ctrl-C) or SIGTERM.

    Raises BrokenPipeError when the reader of standard output has gone.
    """
    console = Console()
    with ExitStack() as stack:
        show: Show
        if as_json:
            show = _print_json
        elif sys.stdout.isatty() and not console.is_dumb_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
            show = lambda clusters: live.update(as_table(clusters, time.time()), refresh=True)  # noqa: E731
        else:
            show = _print_text
        asyncio.run(_watch(interval, show))


def _print_json(clusters: Sequence[ClusterView]) -> None:
    print(as_json_line(clusters, time.time()), flush=True)


def _print_text(clusters: Sequence[ClusterView]) -> None:
    print(f"{_clock(time.time())}\n{as_text(clusters)}\n", flush=True)


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
