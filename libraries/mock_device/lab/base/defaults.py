"""What a cluster is called and made of unless a command line or a suite says otherwise."""

from __future__ import annotations

import os

DEFAULT_TOPOLOGY = "numa-cluster"
DEFAULT_PROFILE = "embedded"
DEFAULT_NAME = os.environ.get("LAB_CLUSTER") or "default"
"""Name of the cluster of ``lab up``; another one for a shell that has LAB_CLUSTER set."""
