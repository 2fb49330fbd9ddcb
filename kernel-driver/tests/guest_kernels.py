"""The kernel that guests boot: that of the nodes, or the debug kernel, with the module for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "MODULE_TEST_KERNEL"
"""Environment variable: ``nodes`` (default) or ``debug``."""
DEBUG = os.environ.get(VARIABLE, "nodes") == "debug"
_MIB = 1 << 20
NUMA_NODE_MEMORY = 448 * _MIB if DEBUG else 192 * _MIB
"""Bytes of memory of a NUMA node: enough for the kernel, a shell and the jobs of the tests."""


@dataclass(frozen=True)
class GuestKernel:
    """What a guest boots, and what is in its initial RAM disk."""

    image: Path
    archive: Path
    """The module's image."""
    more: tuple[Path, ...]
    """Modules and a program for tests."""


def guest_kernel() -> GuestKernel:
    """The kernel that ``VARIABLE`` names; built if it is not cached. Raises StepError."""
    from mock_device.lab.build import debug_kernel, kbuild
    from mock_device.lab.build.node_image import build_node_image
    from mock_device.lab.cluster import deploy

    if DEBUG:
        image = debug_kernel.build_debug_kernel().image
        return GuestKernel(image, debug_kernel.module_image(), tuple(debug_kernel.test_modules()))
    return GuestKernel(build_node_image().kernel, deploy.kmod_image(), tuple(kbuild.build_test_modules()))
