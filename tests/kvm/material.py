"""What the outer guest gets on its second disk: this checkout, and what the cache holds of it.

A key of the cache does not depend on where the cache is, so the lab finds the same artifacts there. Those whose content
the steps do not need are empty folders there; the disk of the nodes is a disk of the outer guest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from kvm.plan import CACHE_FOLDER, NODE_DISK, PLAN_FILE, PROJECT_FOLDER, TOPOLOGY, TOPOLOGY_FILE, WHOLE, Plan
from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT, cache_root
from mock_device.lab.base.variables import topology_path
from mock_device.lab.build import kbuild
from mock_device.lab.build.gobuild import build_embedded_k8s, build_registry
from mock_device.lab.build.node_image import build_node_image
from mock_device.lab.build.outer_guest import disk_command
from mock_device.lab.build.rootless import as_root
from mock_device.lab.build.store import NotCachedError, only_looking
from mock_device.lab.cluster import deploy

MEMORY = "192M"
"""Memory of a NUMA node: enough for systemd, SSH and the kernel module."""
_LEFT_OUT = (".git", ".venv", "results", "__pycache__", ".*_cache", "*.egg-info")
_NOT_NEEDED = ("qemu", "outer-guest")
"""Kinds of artifacts that the outer guest consists of."""
_NOT_COPIED = ("kbuild", "node-packages")
"""Kinds of artifacts that only builds read."""
_ENTRY_BYTES = 4096
_TIMEOUT_SECONDS = 300.0


def small_topology(text: str) -> str:
    """The topology ``text`` with ``MEMORY`` in each NUMA node."""
    topology = yaml.safe_load(text)
    for node in topology["nodes"]:
        for numa in node["numa"]:
            numa["memory"] = MEMORY
    return yaml.safe_dump(topology, sort_keys=False)


def artifacts(plan: Plan) -> set[Path]:
    """Folders of the cache that the steps ask for. Raises StepError if one is missing."""
    builds: list[Callable[[], object]] = [build_node_image, kbuild.build_module]
    if plan is WHOLE:
        builds += [build_embedded_k8s, build_registry, deploy.build_images]
    try:
        with only_looking() as requested:
            for build in builds:
                build()
            return {path for path in requested if path.parent.name not in _NOT_NEEDED}
    except NotCachedError as error:
        raise StepError(f"{error}; expected what a cluster needs in the cache, build it: make setup") from error


def write(folder: Path, plan: Plan) -> Path:
    """Write the second disk to ``folder`` and return it. Raises StepError."""
    disk = folder / "material.raw"
    with tempfile.TemporaryDirectory(dir=folder) as name:
        tree = Path(name)
        shutil.copytree(PROJECT, tree / PROJECT_FOLDER, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        (tree / PLAN_FILE).write_text(plan.name)
        (tree / TOPOLOGY_FILE).write_text(small_topology(topology_path(TOPOLOGY).read_text()))
        copy_artifacts(artifacts(plan), tree / CACHE_FOLDER, plan)
        size = _size(tree.rglob("*")) + plan.spare_bytes
        run(as_root(disk_command(tree, disk, size)), timeout=_TIMEOUT_SECONDS)
    return disk


def copy_artifacts(found: Iterable[Path], cache: Path, plan: Plan) -> None:
    """Copy artifacts to the folder ``cache``: for the short plan those of the guest; the others are empty folders."""
    image = build_node_image()
    for path in found:
        target = cache / path.relative_to(cache_root())
        if path == image.disk.parent:
            shutil.copytree(path, target, ignore=shutil.ignore_patterns(image.disk.name))
            (target / image.disk.name).symlink_to(NODE_DISK)
        elif path.parent.name == "module" or (plan is WHOLE and path.parent.name not in _NOT_COPIED):
            shutil.copytree(path, target, symlinks=True)
        else:
            target.mkdir(parents=True)


def _size(paths: Iterable[Path]) -> int:
    """Bytes that files take on a disk, at most."""
    return sum(path.lstat().st_size + _ENTRY_BYTES for path in paths)
