"""Seeds a fault into a process that starts with this folder in PYTHONPATH; Python imports this module first.

The folder SEEDED_FAULTS has a file for each device server's cluster, ``server-<cluster>.py``.
"""

import os
import runpy
import sys
from pathlib import Path


def _file() -> Path | None:
    folder, argv = os.environ.get("SEEDED_FAULTS"), sys.orig_argv
    if not folder:
        return None
    if {"mock_accel_server", "mock_accel_server.serve"} & {*argv} and "--topology" in argv:
        return Path(folder, f"server-{Path(argv[argv.index('--topology') + 1]).parent.name}.py")
    return None


if (_found := _file()) and _found.is_file():
    runpy.run_path(str(_found))
