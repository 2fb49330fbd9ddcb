"""Default name, topology and profile of a cluster."""

from __future__ import annotations

import os

DEFAULT_TOPOLOGY = "numa-cluster"
DEFAULT_PROFILE = "embedded"
DEFAULT_NAME = os.environ.get("LAB_CLUSTER") or "default"
"""Name of the cluster of ``lab up``; the environment variable LAB_CLUSTER overrides it."""
