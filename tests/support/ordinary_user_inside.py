"""Starts a cluster as an ordinary user, and prints a report as JSON.

Started by ``test_ordinary_user.py`` as root in new mount and PID namespaces, so
that nothing outlives it. The user sees root's cache and checkout through
overlays on a tmpfs, which the user can read and write. A saved cluster has
private keys, so its files are given to the user in the overlay; ``metacopy``
avoids copying its memory and disks for that.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from mock_device.lab.base.defaults import DEFAULT_PROFILE
from mock_device.lab.base.paths import PROJECT, cache_root
from mock_device.lab.base.variables import topology_path
from mock_device.lab.cluster import golden, profile
from mock_device.topology import load
from support.traces import Traces

CLUSTER = "ordinary-user"
USER = "nobody"
"""A user that every system has and that owns no files; ssh(1) needs a user from passwd(5)."""
GROUP = "nogroup"
TIMEOUT_SECONDS = 240


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], timeout=10, check=True)


def closed(path: Path) -> Path | None:
    """The outermost parent of ``path`` that other users cannot enter."""
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def own(path: Path, *, deep: bool = False) -> None:
    """Make the user the owner of a folder, if ``deep`` also of its contents."""
    subprocess.run(["chown", *(["-R"] if deep else []), f"{USER}:{GROUP}", path], timeout=60, check=True)


class View:
    """The folders of the user's view."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._overlaid: list[Path] = []
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", scratch)

    def renew(self, folder: Path) -> None:
        """Replace ``folder`` by a new one of the user, without an overlay, so that locks of others are not visible."""
        new = self._scratch / folder.name
        new.mkdir()
        own(new)
        folder.mkdir(exist_ok=True)
        mount("--bind", new, folder)

    def overlay(self, path: Path) -> None:
        """Mount an overlay on ``path``, whose changes are lost when this process ends."""
        if any(path.is_relative_to(other) for other in self._overlaid):
            return
        self._overlaid.append(path)
        upper, work = (self._scratch / f"{kind}{len(self._overlaid)}" for kind in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir={path},upperdir={upper},workdir={work},metacopy=on"
        mount("-t", "overlay", "-o", options, "overlay", path)

    def open(self, path: Path) -> None:
        """Make ``path`` reachable for other users."""
        while folder := closed(path):
            self.overlay(folder)
            folder.chmod(folder.stat().st_mode | 0o055)


def lab(*arguments: str, environment: dict[str, str], code: int = 0) -> str:
    """Output of a ``lab`` command that the user runs without setuid programs and that must end with ``code``."""
    setpriv = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
    command = [*setpriv, sys.executable, "-m", "mock_device.commands.cli", *arguments]
    run = subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if run.returncode != code:
        sys.exit(f"lab {' '.join(arguments)} ended with {run.returncode}:\n{run.stdout}")
    return run.stdout


def main(topology: str, scratch: Path) -> dict[str, Any]:
    cache = cache_root()
    saved = golden.with_driver(load(topology_path(topology)), profile.load(DEFAULT_PROFILE))
    view = View(scratch)
    for path in (cache, PROJECT, Path(sys.prefix), Path(sys.base_prefix)):
        view.open(path)
    view.overlay(cache)
    for folder in (cache, *cache.glob("*/"), *cache.glob("*/*/")):
        own(folder)
    own(saved, deep=True)
    home = cache / "home"
    for folder in (cache / "clusters", cache / "logs", home):
        view.renew(folder)
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(cache.parent)}
    # Folders that were opened before the overlays were mounted are stale.
    os.chdir(PROJECT)
    named = ("--name", CLUSTER)
    lab("up", *named, "--topology", topology, environment=environment)
    traces = Traces(CLUSTER)
    report: dict[str, Any] = {
        # The guest is miswired, so it is unhealthy.
        "status": json.loads(lab("status", *named, "--json", environment=environment, code=1)),
        "supervisor's user": Path(f"/proc/{traces.supervisor}").owner(),
    }
    node = report["status"]["nodes"][0]["name"]
    report["user on a node"] = lab("ssh", *named, node, "whoami", environment=environment)
    report["nodes"] = lab("kubectl", *named, "get", "nodes", "-o", "name", environment=environment)
    lab("down", *named, environment=environment)
    report["left"] = list(traces.find())
    report["files left"] = [path.name for path in traces.paths.root.iterdir()]
    return report


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
