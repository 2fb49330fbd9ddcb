"""Log lines have klog's format."""

from __future__ import annotations

import io
import re

from mock_accel_dra import klog

LINE = re.compile(r'([IWE])\d{4} \d{2}:\d{2}:\d{2}\.\d{6} +(\d+) (\w+\.py):(\d+)\] (".*)\n')


def test_format(log: io.StringIO) -> None:
    klog.info(klog.STATE, "Prepared claim", claim="ns/name", devices=["mock0", "mock1"], count=2, ok=True)
    match = LINE.fullmatch(log.getvalue())
    assert match is not None
    assert match[1] == "I"
    assert match[3] == "test_klog.py"
    assert match[5] == '"Prepared claim" claim="ns/name" devices=["mock0","mock1"] count=2 ok=true'


def test_severities_and_one_line_each(log: io.StringIO) -> None:
    klog.warning("odd", text='say "no"')
    klog.error("Failed", err=ValueError("two\nlines"))
    first, second = log.getvalue().splitlines()
    assert first.startswith("W")
    assert first.endswith('"odd" text="say \\"no\\""')
    assert second.startswith("E")
    assert second.endswith('"Failed" err="two\\nlines"')


def test_verbosity() -> None:
    stream = io.StringIO()
    klog.configure(klog.OPERATION, stream)
    klog.info(klog.FLOW, "hidden")
    klog.info(klog.OPERATION, "shown")
    klog.error("always")
    klog.configure(klog.STATE)
    assert [line.partition("] ")[2] for line in stream.getvalue().splitlines()] == ['"shown"', '"always"']
