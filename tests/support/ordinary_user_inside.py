"""Has an ordinary user start a cluster, and prints what came of it as JSON.

Started by ``test_ordinary_user.py`` as root in mount and PID namespaces of its
own, so that nothing outlives it. There the cache and the checkout are what they
are for root, but the user may read them and write to them: overlays on a tmpfs.
Keys of a saved cluster are private, so that it becomes the user's own there;
``metacopy`` keeps its memory and disks from being copied for that.
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
"""It is everywhere and owns nothing; ssh(1) wants somebody whom passwd(5) knows."""
GROUP = "nogroup"
TIMEOUT_SECONDS = 240


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], timeout=10, check=True)


def closed(path: Path) -> Path | None:
    """The outermost folder on the way to ``path`` that others may not enter."""
    for folder in (*reversed(path.parents), path):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def own(path: Path, *, deep: bool = False) -> None:
    """Give a folder to the user, with all that is in it if ``deep``."""
    subprocess.run(["chown", *(["-R"] if deep else []), f"{USER}:{GROUP}", path], timeout=60, check=True)


class View:
    """Folders as the user sees them."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._overlaid: list[Path] = []
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", scratch)

    def renew(self, folder: Path) -> None:
        """Put a new folder of the user in place of ``folder``, not in an overlay: locks of others do not show there."""
        new = self._scratch / folder.name
        new.mkdir()
        own(new)
        folder.mkdir(exist_ok=True)
        mount("--bind", new, folder)

    def overlay(self, path: Path) -> None:
        """Let changes of ``path`` end with this process."""
        if any(path.is_relative_to(other) for other in self._overlaid):
            return
        self._overlaid.append(path)
        upper, work = (self._scratch / f"{kind}{len(self._overlaid)}" for kind in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir={path},upperdir={upper},workdir={work},metacopy=on"
        mount("-t", "overlay", "-o", options, "overlay", path)

    def open(self, path: Path) -> None:
        """Let others come as far as ``path``."""
        while folder := closed(path):
            self.overlay(folder)
            folder.chmod(folder.stat().st_mode | 0o055)


def lab(*arguments: str, environment: dict[str, str]) -> str:
    """Output of a ``lab`` command of the user, who can have no help from setuid programs."""
    setpriv = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]
    command = [*setpriv, sys.executable, "-m", "mock_device.commands.cli", *arguments]
    run = subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if run.returncode:
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
    # Folders of before the overlays are not what they seem.
    os.chdir(PROJECT)
    named = ("--name", CLUSTER)
    lab("up", *named, "--topology", topology, environment=environment)
    traces = Traces(CLUSTER)
    report: dict[str, Any] = {
        "status": json.loads(lab("status", *named, "--json", environment=environment)),
        "supervisor's user": Path(f"/proc/{traces.supervisor}").owner(),
    }
    node = report["status"]["nodes"][0]["name"]
    report["who one is on a node"] = lab("ssh", *named, node, "whoami", environment=environment)
    report["nodes"] = lab("kubectl", *named, "get", "nodes", "-o", "name", environment=environment)
    lab("down", *named, environment=environment)
    report["left"] = list(traces.find())
    report["files left"] = [path.name for path in traces.paths.root.iterdir()]
    return report


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
