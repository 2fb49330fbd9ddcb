"""A control plane that runs on the first node of the topology, as ``k3s server``."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.processes import Children
from mock_device.lab.base.spec import Access, ClusterSpec, K3sSpec
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import API_PORT
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import Readiness, wait_ready
from mock_device.lab.controlplane.dns import NAME as DNS
from mock_device.lab.controlplane.dns import Dns
from mock_device.lab.controlplane.pki import Pki, create_k3s_pki
from mock_device.lab.controlplane.sshkeys import SshKeys
from mock_device.lab.guest.guest import GuestFile
from mock_device.lab.guest.k3s_files import k3s_files
from mock_device.topology import Node, Topology

_SECRET = "join-secret"
_SECRET_BYTES = 24
_POLL_SECONDS = 0.5
_JOURNAL = "journalctl --no-pager --unit k3s --lines 300"


class NodePlace:
    """The control plane is saved and restored with the guest in which it runs. This machine runs the DNS server only.

    k3s deploys its own DNS server as pods, unless its component ``coredns`` is disabled.
    """

    def __init__(self, spec: ClusterSpec, k3s: K3sSpec, topology: Topology, children: Children) -> None:
        self._spec = spec
        self._k3s = k3s
        self._server = topology.nodes[0]
        self._folder = spec.paths.pki
        self._children = children
        data = spec.paths.data / "control-plane"
        dns = Dns(Path(spec.binaries), data, self.pki(), self._url, spec.internet)
        self._dns = dns if dns.available and DNS in _disabled(k3s) else None

    @property
    def address(self) -> str:
        return self._server.address

    def create_pki(self) -> Pki:
        """Authorities, and this machine's client certificates; k3s uses the authorities that it finds."""
        pki = create_k3s_pki(self._folder)
        write_file(self._folder / _SECRET, secrets.token_hex(_SECRET_BYTES), 0o600)
        return pki

    def pki(self) -> Pki:
        return Pki(self._folder, "server-ca")

    def node_files(self, node: Node, number: int, keys: SshKeys) -> Sequence[GuestFile]:
        secret = (self._folder / _SECRET).read_text()
        return k3s_files(node, number, self._server, self._spec, self._k3s, self.pki(), keys, secret)

    async def start(self) -> None:
        await self._wait("/readyz", self._not_ready, Timeout.NODE_CONTROL_PLANE.seconds)
        await asyncio.to_thread(bootstrap, self.pki(), dns=self._dns is not None, server=self._url)
        await self._start_dns()

    async def complete(self) -> None:
        # Controllers end, and k3s with them, if the API server is slow while they start, as it is after a restore. They
        # run when one of them has made an object, and only then may the guests be saved.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        await self._wait(
            account, f"the controllers on {self._server.name} do not run", Timeout.NODE_CONTROL_PLANE.seconds
        )
        if self._dns:
            await wait_ready(self._dns.component(), self._children[DNS])

    async def restore(self, golden: Path) -> None:
        """Nothing runs on this machine before the API server answers."""

    async def resumed(self) -> None:
        await self._wait("/readyz", self._not_ready, Timeout.NODE_CONTROL_PLANE_RESTORED.seconds)
        await self._start_dns()

    async def _start_dns(self) -> None:
        if self._dns:
            await asyncio.to_thread(self._dns.prepare)
            component = self._dns.component()
            await self._children.start(DNS, component.argv, cwd=self._spec.paths.data, env=component.env)

    async def upgrade(self, spec: ClusterSpec) -> None:
        raise StepError(f"the control plane of cluster {spec.name!r} runs on a node, where the lab cannot upgrade it")

    async def end(self) -> None:
        """Connections between guests are saved with them, both ends at once; those of the DNS server are not."""
        if self._dns:
            await self._children.end(DNS, signal.SIGKILL)

    def save(self, folder: Path) -> None:
        shutil.copytree(self._folder, folder / "pki")

    @property
    def _url(self) -> str:
        return f"https://{self.address}:{API_PORT}"

    @property
    def _not_ready(self) -> str:
        return f"the API server on {self._server.name} is not ready"

    async def _wait(self, path: str, problem: str, timeout: float) -> None:
        """Wait until the API server answers 200 to ``path``. Raises StepError with the ``problem``."""
        readiness = Readiness(f"{self._url}{path}", self.pki().identity("admin"), timeout)
        deadline = time.monotonic() + timeout
        while reason := await asyncio.to_thread(readiness.probe):
            if time.monotonic() > deadline:
                raise StepError(f"{problem} after {timeout:.0f} s: {reason}", await asyncio.to_thread(self._journal))
            await asyncio.sleep(_POLL_SECONDS)

    def _journal(self) -> Path:
        """Copy the end of the server's journal to the logs; if the node does not answer, its console must do."""
        logs, name = self._spec.paths.logs, self._server.name
        port = Access.load(self._spec.paths.access).ssh_ports[name]
        options = {
            "IdentityFile": SshKeys(self._folder).user.private,
            "UserKnownHostsFile": self._folder / "known_hosts",
            # The node is known there by its forwarded port.
            "HostKeyAlias": f"[127.0.0.1]:{port}",
            "ConnectTimeout": f"{Timeout.SSH_CONNECT.seconds:.0f}",
            "BatchMode": "yes",
        }
        line = ["ssh", "-F", "none", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
        try:
            text = run([*line, f"root@{self.address}", _JOURNAL], timeout=Timeout.JOURNAL.seconds)
        except StepError:
            return logs / f"console-{name}.log"
        path = logs / f"k3s-{name}.log"
        write_file(path, text)
        return path


def _disabled(k3s: K3sSpec) -> list[str]:
    """Packaged components that are not deployed; a value of the flag may have several, separated by commas."""
    return [name for value in k3s.server.get("disable", []) for name in value.split(",")]
