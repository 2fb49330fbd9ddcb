"""A cluster's control plane on this machine: command lines and configuration of its components, order of start.

They run in the cluster's network namespace, on its bridge address and on loopback,
so that every cluster uses the standard ports. All files that they write are below
the directory ``ControlPlane.data``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from mock_device.lab.base.files import write_file
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.controlplane.addresses import (
    API_PORT,
    CLUSTER_CIDR,
    DNS_DOMAIN,
    HOST_ADDRESS,
    SERVICE_CIDR,
)
from mock_device.lab.controlplane.components import Component, Readiness
from mock_device.lab.controlplane.dns import Dns
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import Pki

API_SERVER = f"https://{HOST_ADDRESS}:{API_PORT}"

PROXY_NODE = "control-plane"
"""Node name of the host's kube-proxy; no node has this name."""


@dataclass(frozen=True)
class ControlPlane:
    """A control plane and its files.

    ``binaries`` has a link for each component; components write below ``data``.
    ``proxy_node`` is the node name of the host's kube-proxy, which waits 30 s for
    that node and then starts without it. A node that is registered with its address
    (in a restored cluster) saves the wait, but kube-proxy ends when that node is
    deleted or changes its address.
    ``feature_gates`` is the value of ``--feature-gates`` for every component,
    ``runtime_config`` that of ``--runtime-config`` for the API server.
    With ``internet``, names outside the cluster are resolved.
    """

    binaries: Path
    data: Path
    pki: Pki
    feature_gates: str = ""
    proxy_node: str = PROXY_NODE
    internet: bool = False
    runtime_config: str = ""

    def prepare(self) -> None:
        """Write configuration files and kubeconfigs. Secrets among them are readable by their owner only."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("controller-manager", "scheduler", "kube-proxy"):
            write_kubeconfig(self._kubeconfig(name), self.pki.identity(name), API_SERVER)
        write_file(self.data / "scheduler.yaml", yaml.safe_dump(self._scheduler_config()))
        write_file(self.data / "kube-proxy.yaml", yaml.safe_dump(self._proxy_config()))
        self._dns.prepare()

    def components(self) -> list[Component]:
        """All components in the order of their start; CoreDNS only if ``binaries`` has it."""
        found = [self._etcd(), self._apiserver(), self._controller_manager(), self._scheduler(), self._proxy()]
        if self._dns.available:
            found.append(self._dns.component())
        return found

    @property
    def _dns(self) -> Dns:
        return Dns(self.binaries, self.data, self.pki, API_SERVER, self.internet)

    def _kubeconfig(self, name: str) -> Path:
        return self.data / f"{name}.kubeconfig"

    def _argv(self, name: str, options: Mapping[str, object]) -> list[str]:
        return [str(self.binaries / name), *(f"--{option}={value}" for option, value in options.items())]

    def _etcd(self) -> Component:
        own = self.pki.identity("etcd")
        client, peer = "https://127.0.0.1:2379", "https://127.0.0.1:2380"
        options = {
            "name": "etcd",
            "data-dir": self.data / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"etcd={peer}",
            "cert-file": own.certificate,
            "key-file": own.key,
            "trusted-ca-file": own.ca,
            "client-cert-auth": "true",
            "peer-cert-file": own.certificate,
            "peer-key-file": own.key,
            "peer-trusted-ca-file": own.ca,
            "peer-client-cert-auth": "true",
            # A cluster does not survive a failure of its host, so its data need not, either.
            "unsafe-no-fsync": "true",
            "snapshot-count": 10000,
            "log-level": "warn",
        }
        identity = self.pki.identity("apiserver-etcd-client")
        return Component(
            "etcd", self._argv("etcd", options), Readiness(f"{client}/readyz", identity, Timeout.ETCD.seconds)
        )

    def _apiserver(self) -> Component:
        pki = self.pki
        serving, etcd = pki.identity("apiserver"), pki.identity("apiserver-etcd-client")
        kubelet, proxy = pki.identity("apiserver-kubelet-client"), pki.identity("front-proxy-client")
        options = {
            "advertise-address": HOST_ADDRESS,
            "bind-address": HOST_ADDRESS,
            "secure-port": API_PORT,
            "permit-address-sharing": "true",
            "cert-dir": self.data / "apiserver",
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "client-ca-file": pki.ca,
            "anonymous-auth": "false",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            # The kernel module's loader and the node agent are privileged.
            "allow-privileged": "true",
            "etcd-servers": "https://127.0.0.1:2379",
            "etcd-cafile": etcd.ca,
            "etcd-certfile": etcd.certificate,
            "etcd-keyfile": etcd.key,
            "kubelet-certificate-authority": pki.ca,
            "kubelet-client-certificate": kubelet.certificate,
            "kubelet-client-key": kubelet.key,
            "kubelet-preferred-address-types": "InternalIP",
            "proxy-client-cert-file": proxy.certificate,
            "proxy-client-key-file": proxy.key,
            "requestheader-client-ca-file": pki.front_proxy_ca,
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "service-account-issuer": f"https://kubernetes.default.svc.{DNS_DOMAIN}",
            "service-account-key-file": pki.service_account_public_key,
            "service-account-signing-key-file": pki.service_account_key,
            "service-cluster-ip-range": SERVICE_CIDR,
            "profiling": "false",
            **({"runtime-config": self.runtime_config} if self.runtime_config else {}),
            **self._common_options(),
        }
        readiness = Readiness(f"{API_SERVER}/readyz", pki.identity("admin"), Timeout.API_SERVER.seconds)
        return Component("kube-apiserver", self._argv("kube-apiserver", options), readiness, after=("etcd",))

    def _controller_manager(self) -> Component:
        options = {
            **self._secure_serving("controller-manager", 10257),
            "kubeconfig": self._kubeconfig("controller-manager"),
            "leader-elect": "false",
            "use-service-account-credentials": "true",
            "root-ca-file": self.pki.ca,
            "service-account-private-key-file": self.pki.service_account_key,
            # Pod addresses of a node are in its CNI configuration, by the node's number.
            "allocate-node-cidrs": "false",
            "cluster-cidr": CLUSTER_CIDR,
            "service-cluster-ip-range": SERVICE_CIDR,
            "flex-volume-plugin-dir": self.data / "volume-plugins",
            # A guest without hardware virtualisation may stall for long under load.
            "node-monitor-grace-period": "90s",
            "kube-api-qps": 100,
            "kube-api-burst": 200,
            "profiling": "false",
            **self._common_options(),
        }
        return self._client_component("kube-controller-manager", options, "https://127.0.0.1:10257/healthz")

    def _scheduler(self) -> Component:
        options = {
            **self._secure_serving("scheduler", 10259),
            "config": self.data / "scheduler.yaml",
            **self._common_options(),
        }
        return self._client_component("kube-scheduler", options, "https://127.0.0.1:10259/readyz")

    def _proxy(self) -> Component:
        argv = self._argv("kube-proxy", {"config": self.data / "kube-proxy.yaml", "v": 0})
        # Not /healthz, which needs a node of that name. The answer has a status once the rules are written.
        readiness = Readiness("http://127.0.0.1:10256/livez", None, Timeout.COMPONENT.seconds, shows='"status":')
        return Component("kube-proxy", argv, readiness, after=("kube-apiserver",), needed_by_nodes=False)

    def _client_component(self, name: str, options: Mapping[str, object], url: str) -> Component:
        readiness = Readiness(url, self.pki.identity("admin"), Timeout.COMPONENT.seconds)
        return Component(name, self._argv(name, options), readiness, after=("kube-apiserver",))

    def _common_options(self) -> dict[str, object]:
        gates = {"feature-gates": self.feature_gates} if self.feature_gates else {}
        return {**gates, "v": 0}

    def _secure_serving(self, name: str, port: int) -> dict[str, object]:
        own, kubeconfig = self.pki.identity(name), self._kubeconfig(name)
        return {
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "tls-cert-file": own.certificate,
            "tls-private-key-file": own.key,
            "client-ca-file": self.pki.ca,
            "requestheader-client-ca-file": self.pki.front_proxy_ca,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
        }

    def _scheduler_config(self) -> dict[str, object]:
        return {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": str(self._kubeconfig("scheduler")), "qps": 100, "burst": 200},
            # The cluster is small: a pod that did not fit can soon be tried again.
            "podInitialBackoffSeconds": 1,
            "podMaxBackoffSeconds": 2,
            "enableProfiling": False,
        }

    def _proxy_config(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self._kubeconfig("kube-proxy"))},
            "hostnameOverride": self.proxy_node,
            "bindAddress": HOST_ADDRESS,
            "clusterCIDR": CLUSTER_CIDR,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # Limits of connection tracking are the host's, not the namespace's: leave them alone.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
