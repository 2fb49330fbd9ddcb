"""All time-outs are in one table, which docs/timeouts.md shows. Exceptions are listed here with their reasons."""

from __future__ import annotations

import json
import re

import pytest
from support.timeout_constants import early_seconds, time_outs

from mock_device.lab.base import timeouts
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.base.variables import PROFILE_SCHEMA

LIBRARIES = PROJECT / "libraries"
TABLE = LIBRARIES / "mock_device" / "lab" / "base" / "timeouts.py"
PAGE = PROJECT / "docs" / "timeouts.md"
OTHERS = {
    ("SlicesLibrary.py", "timedelta(seconds=20)"): "a duration in which nothing may be written",
    (
        "mock_device/checks/driver/driver.py",
        "_SILENCE_SECONDS",
    ): "how long a log may have no new line while it is followed",
    ("mock_device/checks/driver/identity.py", "_TOKEN_SECONDS"): "the lifetime of a token",
    ("mock_device/checks/performance/measuring.py", "_WATCH_SECONDS"): "the length of one of many watches",
    ("mock_device/diagnosis/discovery_steps.py", "_CLOCK_SECONDS"): "a difference of clocks that is reported",
    ("mock_device/diagnosis/snapshot.py", "WATCHED_SECONDS"): "a duration in which writes are counted",
    ("mock_device/lab/base/progress.py", "_REMINDER_SECONDS"): "the pause between two lines of progress",
    ("mock_device/lab/cluster/operator_manifests.py", "_PROBE_ANSWER_SECONDS"): "a field of a manifest",
    ("mock_device/lab/cluster/profile.py", "timeout_factor"): "the factor of a profile",
    ("mock_device/lab/cluster/webhook_certificates.py", "timedelta(days=30)"): "the validity of a certificate",
    ("mock_device/lab/controlplane/pki.py", "timedelta(days=365)"): "the validity of a certificate",
    ("mock_device/lab/controlplane/pki.py", "timedelta(days=1)"): "the validity of a certificate",
    ("mock_device/lab/controlplane/pki.py", "timedelta(minutes=15)"): "the validity of a certificate",
    ("mock_device/lab/kube/manifests.py", "_WATCH_SECONDS"): "the length of one of many watches",
    ("mock_device/lab/supervisor/supervisor.py", "_SIGN_OF_LIFE_SECONDS"): "the pause between two signs of life",
}
"""Looks like a time-out, but the factor must not multiply it."""


def code() -> dict[str, str]:
    """Text of all Python files but the table, by path below ``libraries``."""
    files = sorted(path for path in LIBRARIES.rglob("*.py") if path != TABLE)
    return {str(path.relative_to(LIBRARIES)): path.read_text() for path in files}


def test_no_time_out_is_outside_the_table() -> None:
    found = {(path, item.partition(": ")[2] or item) for path, text in code().items() for item in time_outs(text)}
    assert sorted(found - OTHERS.keys()) == [], "add it to lab/base/timeouts.py, or to OTHERS with the reason"
    assert sorted(OTHERS.keys() - found) == [], "remove it from OTHERS"


def test_every_time_out_of_the_table_is_used() -> None:
    text = "\n".join(code().values())
    assert [item.name for item in Timeout if not re.search(rf"\bTimeout\.{item.name}\.(seconds|nominal)\b", text)] == []


def test_keywords_of_resources_have_no_literal_time_out() -> None:
    # The listener multiplies those of tests only.
    found = re.compile(r"\[Timeout\] +(.+)")
    texts = {path.name: path.read_text() for path in (PROJECT / "resources").glob("*.resource")}
    assert [(name, value) for name, text in texts.items() for value in found.findall(text)] == [
        ("cluster.resource", "${POOL_TIMEOUT}")
    ]


def test_no_time_out_is_multiplied_before_the_profile_is_known() -> None:
    assert [(path, line) for path, text in code().items() for line in early_seconds(text)] == []
    examples = (
        "X = Timeout.GIT.seconds",
        "def f(x: float = Timeout.GIT.seconds): pass",
        "class C:\n    x = Timeout.GIT.seconds",
    )
    assert all(early_seconds(example) for example in examples)
    assert early_seconds("def f(): return Timeout.GIT.seconds\nX = Timeout.GIT.nominal") == []


def test_page_shows_the_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{item.name}` | {item.nominal.total_seconds():g} | {item.bounds} |" for item in Timeout]


def test_schema_of_profiles_has_the_bounds_of_the_factor() -> None:
    key = json.loads(PROFILE_SCHEMA.read_text())["properties"]["timeout-factor"]
    assert (key["minimum"], key["maximum"], key["default"]) == (timeouts.SMALLEST, timeouts.LARGEST, 1)
    supervisor = (LIBRARIES / "mock_device/lab/supervisor/supervisor.py").read_text()
    signs = re.search(r"_SIGN_OF_LIFE_SECONDS = ([\d.]+)", supervisor)
    assert signs
    assert float(signs[1]) < Timeout.ANSWER.nominal.total_seconds() * timeouts.SMALLEST


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ("_READY_TIMEOUT_SECONDS = 0.5", "_READY_TIMEOUT_SECONDS"),
        ("_TIMEOUT: float = 2 * 60", "_TIMEOUT"),
        ("_START_SECONDS = 30.0", "_START_SECONDS"),
        ("def wait(timeout: float = 30.0): pass", "line 1: timeout"),
        ("async def wait(*, timeout_seconds=30): pass", "line 1: timeout_seconds"),
        ("def wait(timeout: timedelta = timedelta(minutes=1)): pass", "line 1: timedelta(minutes=1)"),
        ("run(argv, timeout=10)", "line 1: run(argv, timeout=10)"),
        ("api.list(_request_timeout=20)", "line 1: api.list(_request_timeout=20)"),
        ("asyncio.timeout(10)", "line 1: asyncio.timeout(10)"),
        ("child.wait(5)", "line 1: child.wait(5)"),
        ("Readiness(url, None, 60)", "line 1: Readiness(url, None, 60)"),
        ("until(check, timedelta(seconds=60), 'what')", "line 1: timedelta(seconds=60)"),
        ("['timeout', '60', 'sh']", "line 1: ['timeout', '60', 'sh']"),
        ("'timeout 60 sh'", "line 1: timeout 60 sh"),
        ("timeout.total_seconds()", "line 1: timeout.total_seconds()"),
    ],
)
def test_time_out_is_found(source: str, item: str) -> None:
    assert time_outs(source) == [item]


@pytest.mark.parametrize(
    "source",
    [
        "_POLL_SECONDS = 0.5",
        "_LINES = 200",
        "def wait(timeout: float | None = None): pass",
        "run(argv, timeout=Timeout.GIT.seconds)",
        "['timeout', f'{Timeout.RUNTIME_ANSWER.seconds:.0f}', 'sh']",
        "def wait(timeout: timedelta = Timeout.SLICES.nominal): pass",
        "thread.join()",
        "', '.join(names)",
        "event.wait(0.1)",
        "timedelta(seconds=seconds)",
        "limit.total_seconds()",
    ],
)
def test_other_code_is_not_taken_for_a_time_out(source: str) -> None:
    assert time_outs(source) == []
