"""The cluster's DNS server: CoreDNS on the bridge address, a process beside the supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_device.lab.base.files import write_file
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import DNS_DOMAIN, HOST_ADDRESS, OUTSIDE_DNS, REGISTRY_NAME
from mock_device.lab.controlplane.components import Component, Readiness
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Pki

NAME = "coredns"


@dataclass(frozen=True)
class Dns:
    """Answers for services and pods, for the cluster's registry, and with ``internet`` for names outside.

    ``server`` is the URL of the API server, from which it has services and pods.
    """

    binaries: Path
    data: Path
    pki: Pki
    server: str
    internet: bool = False

    @property
    def available(self) -> bool:
        """Whether ``binaries`` has CoreDNS."""
        return (self.binaries / NAME).exists()

    def prepare(self) -> None:
        """Write its configuration; its kubeconfig is readable by the owner only."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_kubeconfig(self._kubeconfig, self.pki.identity(NAME), self.server)
        write_file(self.data / "Corefile", self._corefile())

    def component(self) -> Component:
        """The process."""
        argv = [str(self.binaries / NAME), "-conf", str(self.data / "Corefile")]
        readiness = Readiness("http://127.0.0.1:8181/ready", None, Timeout.COMPONENT.seconds)
        return Component(NAME, argv, readiness, after=("kube-apiserver",), needed_by_nodes=False)

    @property
    def _kubeconfig(self) -> Path:
        return self.data / f"{NAME}.kubeconfig"

    def _corefile(self) -> str:
        # Without internet there is no other name server. An immediate NXDOMAIN is better than a refusal, which
        # resolvers treat as temporary.
        other = f"forward . {OUTSIDE_DNS}" if self.internet else "template ANY ANY {\n        rcode NXDOMAIN\n    }"
        return f"""\
{DNS_DOMAIN} in-addr.arpa ip6.arpa {{
    bind {HOST_ADDRESS}
    ready 127.0.0.1:8181
    errors
    cache 5
    loadbalance
    kubernetes {{
        kubeconfig {self._kubeconfig}
        pods insecure
        ttl 5
    }}
}}
{REGISTRY_NAME} {{
    bind {HOST_ADDRESS}
    errors
    template IN A {{
        answer "{{{{ .Name }}}} 60 IN A {HOST_ADDRESS}"
    }}
    template ANY ANY {{
        rcode NOERROR
    }}
}}
. {{
    bind {HOST_ADDRESS}
    errors
    {other}
}}
"""
