"""``make test`` itself: commands that fail, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import run
from support import PYTHONPATH

CHILD = """
import signal, sys, time
try:
    print("running", flush=True)
    signal.sigtimedwait([], 20)
except KeyboardInterrupt:
    time.sleep(1)  # longer than subprocess.run waits after Ctrl-C
    print("ended by itself", flush=True)
    sys.exit(130)
"""

PARENT = """
import sys, run
code = sys.argv.pop()
run.CHECKS = {"lint": lambda: run.command("child", sys.executable, "-c", code)}
sys.exit(run.main())
"""


def test_exit_code_decides_the_count() -> None:
    assert run.command("passes", sys.executable, "-c", "") == run.Count(passed=1)
    assert run.command("fails", sys.executable, "-c", "raise SystemExit(3)") == run.Count(failed=1)


def test_command_may_clean_up_after_ctrl_c() -> None:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    # Shells start background processes with SIGINT ignored.
    argv = ["env", "--default-signal=INT", sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        lines = iter(child.stdout.readline, "")
        assert any(line == "running\n" for line in lines)
        os.killpg(child.pid, signal.SIGINT)
        said = "".join(lines)
        assert child.wait(20) == 130
    assert "ended by itself" in said
    assert said.endswith("test: interrupted; not everything ran\n")
    assert "Traceback" not in said
