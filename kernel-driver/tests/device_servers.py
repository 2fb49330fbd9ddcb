"""A ``python -m mock_accel_server`` process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 10.0


class ServerProcess:
    """Listens on its sockets as soon as it is made."""

    def __init__(self, log: Path, options: list[str]) -> None:
        paths = os.pathsep.join([str(_PROJECT / "vfio-user"), str(_PROJECT / "libraries")])
        argv = [sys.executable, "-m", "mock_accel_server", *options]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=errors, env=os.environ | {"PYTHONPATH": paths}
            )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        self._process.stdout.close()
        assert ready.startswith(b"ready\t"), f"the server did not start: {log.read_text()}"

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)

    def stop(self) -> None:
        """End it as its supervisor would; nothing when it has ended."""
        self._process.terminate()
        self._process.wait(_STOP_SECONDS)
