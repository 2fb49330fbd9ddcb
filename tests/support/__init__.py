"""Fakes, recorded data, and programs that tests run inside namespaces."""

import os
from pathlib import Path

SUPPORT = Path(__file__).parent
"""This folder; its programs (``*_inside.py``) are run by their path."""
DATA = SUPPORT / "data"
PYTHONPATH = os.pathsep.join(str(SUPPORT.parents[1] / name) for name in ("libraries", "tests", "dra-driver"))
"""Where programs that tests start find their modules."""
