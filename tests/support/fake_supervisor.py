"""A fake supervisor, which listens on a cluster's real socket and returns a test's answers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack
from typing import Any

from mock_device.lab.base.spec import NO_INTERNET, ClusterSpec, ImageSpec, QemuSpec, control_address

TIMEOUT = 60.0
MIB = 1 << 20
PROCESSES = [
    {"name": "qemu-node1", "pid": 5, "exit_code": None, "ending": False, "memory": 700 * MIB},
    {"name": "qemu-node2", "pid": 6, "exit_code": None, "ending": False, "memory": 600 * MIB},
    {"name": "devices-node1", "pid": 7, "exit_code": -9, "ending": False, "memory": 0},
    {"name": "etcd", "pid": 8, "exit_code": None, "ending": False, "memory": 40 * MIB},
    {"name": "kube-apiserver", "pid": 9, "exit_code": 0, "ending": True, "memory": 0},
]
STATUS: dict[str, Any] = {
    "topology": "/some/numa-cluster.yaml",
    "state": "running",
    "reason": "",
    "step": "",
    "started": 1000.0,
    "stays": True,
    "holders": ["robot: NUMA / Two Devices Share A NUMA Node", "lab ssh"],
    "processes": PROCESSES,
}


SPEC = ClusterSpec(
    name="some",
    topology="/t.yaml",
    directory="/d",
    qemu=QemuSpec(["qemu"], {"A": "b"}, "tcg"),
    qemu_img=["qemu-img"],
    image=ImageSpec("disk", "raw", "kernel", "initrd"),
    binaries="/b",
    feature_gates="",
    runtime_config="",
    default_runtime="crun",
    kubelet_config="maxPods: 200\n",
    k3s=None,
    golden="",
    control_fd=3,
    api_fd=4,
    ssh_fds={"node1": 5},
    registry="/r/lab-registry",
    registry_fd=6,
    internet_fd=NO_INTERNET,
    timeout_factor=1.0,
)


class FakeSupervisor:
    """Answers ``status`` and ``hold``, or hangs."""

    def __init__(self, name: str, *, hangs: bool = False, **changes: Any) -> None:
        self.status = STATUS | {"name": name} | changes
        self.connections = 0
        self.requests = 0
        self._hangs = hangs
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._listener.bind(control_address(name))
        self._listener.listen()
        self.go_on = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._stack.callback(client.close)
            self._stack.callback(client.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            for line in client.makefile("rb"):
                answers = {"status": self.status, "hold": True, "stop": True}
                result = answers[json.loads(line)["do"]]
                self.requests += 1
                if self._hangs:
                    self.go_on.wait(TIMEOUT)
                client.sendall(json.dumps({"result": result}).encode() + b"\n")
        except OSError:
            return

    def end(self) -> None:
        self.go_on.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        # The address remains in use until accept(2) returns, even if the socket is closed.
        self._accepting.join(TIMEOUT)
        try:
            self._stack.close()
        except OSError:
            return
