"""Log lines have klog's format."""

from __future__ import annotations

import io
import logging
import re
import time

from mock_accel_dra import klog

LINE = re.compile(r'([IWE])\d{4} \d{2}:\d{2}:\d{2}\.\d{6} +(\d+) (\w+\.py):(\d+)\] (".*)\n')


def test_format(log: io.StringIO) -> None:
    klog.info(klog.STATE, "Prepared claim", claim="ns/name", devices=["mock0", "mock1"], count=2, ok=True)
    match = LINE.fullmatch(log.getvalue())
    assert match is not None
    assert match[1] == "I"
    assert match[3] == "test_klog.py"
    assert match[5] == '"Prepared claim" claim="ns/name" devices=["mock0","mock1"] count=2 ok=true'


def test_lines_equal_recorded_ones() -> None:
    """Recorded before the lines were made by ``logging``; header as of k8s.io/klog/v2, ``formatHeader``."""
    formatter = klog._Formatter()
    formatter.converter = time.gmtime
    origin = {"created": 1764000671.015625, "process": 4711, "filename": "agent.py", "lineno": 42}
    values = {"socket": "/var/lib/dra.sock", "workers": 4, "ok": True, "names": ("ü", 1.5), "err": OSError('a "b"\n')}
    lines = [
        formatter.format(logging.makeLogRecord({**origin, "levelno": level, "levelname": name, "msg": text, **more}))
        for level, name, text, more in (
            (logging.INFO - klog.FLOW, "Level 16", "Serving", {"values": values}),
            (logging.WARNING, "WARNING", "100% %s", {"values": {"claim": None}}),
            (logging.ERROR, "ERROR", "Cannot run", {}),
        )
    ]
    assert lines == [
        "I1124 16:11:11.015625    4711 agent.py:42] "
        '"Serving" socket="/var/lib/dra.sock" workers=4 ok=true names=["ü",1.5] err="a \\"b\\"\\n"',
        'W1124 16:11:11.015625    4711 agent.py:42] "100% %s" claim="None"',
        'E1124 16:11:11.015625    4711 agent.py:42] "Cannot run"',
    ]


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
    klog.set_verbosity(klog.FLOW)
    klog.info(klog.FLOW, "shown at run time")
    klog.set_verbosity(klog.STATE)
    klog.info(klog.FLOW, "hidden again")
    klog.configure(klog.STATE)
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines == ['"shown"', '"always"', '"shown at run time"']
