"""What a guest's kernel reports as a bug."""

from __future__ import annotations

import re

BUG = re.compile(
    r"WARNING:|BUG:|Oops|general protection fault|refcount_t|use-after-free|unreferenced object|INFO: (task|rcu|trying)"
)
"""Lines by which the kernel reports a bug, also while allocations fail: oops, KASAN, lockdep, hung tasks, leaks."""
COMPLAINT = re.compile(f"{BUG.pattern}|Call Trace|sysfs: cannot|kobject")
"""These lines, and those that it writes when something has failed that should not."""
_REPORT_LINES = 120


def reports(log: str, pattern: re.Pattern[str] = COMPLAINT) -> str:
    """The first report in a kernel log, with all that follows, at most 120 lines; empty if there is none."""
    lines = log.splitlines()
    first = next((number for number, line in enumerate(lines) if pattern.search(line)), len(lines))
    # The line before it is the frame of a report.
    begin = first - 1 if 0 < first < len(lines) and set(lines[first - 1].rpartition("] ")[2]) == {"="} else first
    return "\n".join(lines[begin : begin + _REPORT_LINES])
