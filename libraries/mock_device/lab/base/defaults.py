"""Default name, topology, profile and version of Kubernetes of a cluster."""

from __future__ import annotations

import os

from mock_device.lab.base.kubernetes_version import KubernetesVersion

DEFAULT_TOPOLOGY = "numa-cluster"
DEFAULT_PROFILE = "embedded"
DEFAULT_KUBERNETES = KubernetesVersion.V1_37
DEFAULT_NAME = os.environ.get("LAB_CLUSTER") or "default"
"""Name of the cluster of ``lab up``; the environment variable LAB_CLUSTER overrides it."""
