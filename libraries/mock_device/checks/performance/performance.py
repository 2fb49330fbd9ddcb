"""Performance figures: percentiles, limits, and the file that stores them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, NoReturn

import yaml

from mock_device.checks.driver.metrics import Histogram
from mock_device.checks.errors import CheckError
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.tables import Table

FILE = "performance.json"
SECONDS = "s"
JOBS_PER_SECOND = "jobs/s"
BYTES_PER_SECOND = "bytes/s"
_FACTOR = "factor-without-hardware-virtualisation"
_COLUMNS = ("figure", "size", "unit", "count", "median", "mean", "p95", "longest", "limit")


@dataclass(frozen=True)
class Figure:
    """A quantity that was measured ``count`` times."""

    name: str
    size: int
    """Number of devices or pods."""
    unit: str
    count: int
    median: float | None
    """None if only a histogram is known."""
    mean: float
    p95: float | None
    """For a histogram, the bucket's bound; None above the last bucket."""
    longest: float | None
    limit: float | None = None
    """Maximum of ``value``; None if there is no limit."""

    @property
    def value(self) -> float:
        """The representative value: the median, or the mean of a histogram."""
        return self.mean if self.median is None else self.median

    def __str__(self) -> str:
        return f"{self.name} ({self.size})"


def figure(name: str, size: int, values: Sequence[float], limit: float | None = None, *, unit: str = SECONDS) -> Figure:
    """A figure of at least one single value."""
    p95 = percentile(values, 95)
    return Figure(name, size, unit, len(values), median(values), fmean(values), p95, max(values), limit)


def of_histogram(name: str, size: int, histogram: Histogram) -> Figure:
    """A figure of a non-empty histogram in seconds."""
    bound = histogram.bound(0.95)
    p95 = bound if math.isfinite(bound) else None
    return Figure(name, size, SECONDS, histogram.count, None, histogram.mean, p95, None)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of ``values`` that ``percent`` of them do not exceed (nearest rank). ValueError without values."""
    if not values:
        raise ValueError("expected at least one value for a percentile")
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


def check(item: Figure) -> None:
    """Raise CheckError if the figure exceeds its limit."""
    if item.limit is not None and item.value > item.limit:
        raise CheckError(
            f"{item}: expected at most {item.limit:g} {item.unit}, found {item.value:.4g} {item.unit} "
            f"({'mean' if item.median is None else 'median'} of {item.count}); "
            "limits are in variables/limits/performance.yaml; "
            "look first at what else runs on this machine: lab clusters"
        )


def table(figures: Iterable[Figure]) -> Table:
    """One row per figure; numbers have four significant digits."""
    rows: list[tuple[str, ...]] = []
    for item in figures:
        numbers = (item.median, item.mean, item.p95, item.longest, item.limit)
        words = ["-" if number is None else f"{number:.4g}" for number in numbers]
        rows.append((item.name, str(item.size), item.unit, str(item.count), *words))
    return Table(_COLUMNS, rows)


@dataclass(frozen=True)
class Limits:
    """Limits in seconds by name of the figure and size, for hardware virtualisation."""

    path: Path
    by_size: Mapping[str, Mapping[int, float]]
    factor: float
    """Factor for all limits without hardware virtualisation."""

    def of(self, name: str, size: int, accelerator: str) -> float:
        """Limit of the smallest known size that is not below ``size``. Raises CheckError if there is none.

        ``accelerator`` is QEMU's, ``kvm`` or ``tcg``.
        """
        sizes = self.by_size.get(name, {})
        fitting = [known for known in sizes if known >= size]
        if not fitting:
            known = ", ".join(map(str, sizes)) or "no size"
            raise CheckError(f"{self.path}: expected a limit of {name} for {size}, found limits for {known}")
        return sizes[min(fitting)] * (self.factor if accelerator == "tcg" else 1)


def load_limits(path: Path) -> Limits:
    """Read a file of limits. Raises StepError with file and reason."""

    def refuse(reason: str) -> NoReturn:
        raise StepError(f"{path}: {reason}")

    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StepError(f"{path}: cannot be read: {error}") from error
    if not isinstance(fields, dict) or not _positive(factor := fields.pop(_FACTOR, None)):
        refuse(f"expected a mapping with a number above 0 for {_FACTOR!r}")
    for name, sizes in fields.items():
        good = isinstance(sizes, dict) and all(isinstance(size, int) and _positive(sizes[size]) for size in sizes)
        if not good:
            refuse(f"{name}: expected seconds by size, found {sizes!r}")
    return Limits(path, fields, factor)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Measured:
    """Measurements of a suite, and the cluster on which it ran."""

    suite: str
    began: str
    """ISO 8601."""
    cluster: str
    topology: str
    accelerator: str
    """QEMU's, ``kvm`` or ``tcg``."""
    figures: tuple[Figure, ...]


def write(path: Path, measured: Measured) -> None:
    """Store a suite's measurements in ``path`` (JSON), replacing its earlier ones; other suites are kept."""
    _write(path, [*_others(_read(path), measured.suite), asdict(measured)])


def merge(parts: Iterable[Path], path: Path) -> None:
    """Merge ``parts``, files of single suites, into ``path``; no-op without parts."""
    entries = _read(path)
    found = [entry for part in sorted(parts) for entry in _read(part)]
    for entry in found:
        entries = [*_others(entries, entry["suite"]), entry]
    if found:
        _write(path, entries)


def _others(entries: list[dict[str, Any]], suite: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["suite"] != suite]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text())["suites"]
    except FileNotFoundError:
        return []
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StepError(f"{path}: expected figures of suites, found something else ({error!r}); remove it") from error
    return entries


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    write_file(path, json.dumps({"suites": entries}, indent=1))
