"""Memory of a server whose 36 devices all have a client."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from server_process import NODE, ServerProcess
from vfio_user_client import Client

_SLOTS, _FUNCTIONS = 9, 4
_LIMIT_KIB = 12 << 10
"""The project's aim."""


def _topology() -> str:
    slots = "\n".join(
        "          - functions:\n"
        + "\n".join(f"              - {{uuid: D-{slot}-{number}, memory: 8G}}" for number in range(_FUNCTIONS))
        for slot in range(_SLOTS)
    )
    return f"""\
name: many
nodes:
  - name: {NODE}
    address: 192.168.122.211
    numa:
      - node: 0
        memory: 1G
        cpus: 1
        bus: 0x10
        slots:
{slots}
"""


def memory_kib(pid: int) -> int:
    """Memory of a process in KiB; what it shares with others counts in parts (Pss, proc_pid_smaps(5))."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))


def test_memory_of_36_connected_devices(folder: Path) -> None:
    topology = folder / "topology.yaml"
    topology.write_text(_topology())
    server = ServerProcess(folder, topology)
    with ExitStack() as stack:
        stack.callback(server.close)
        sockets = sorted(set(folder.glob("*.sock")) - {folder / "control.sock"})
        assert len(sockets) == _SLOTS * _FUNCTIONS
        for path in sockets:
            assert stack.enter_context(Client(path)).read(0, 4) == b"KCOM"
        used = memory_kib(server.process.pid)
    assert used <= _LIMIT_KIB
