"""Recorded facts of nodes' container runtimes and kubelets."""

from __future__ import annotations

from mock_device.lab.cluster import node_runtime

PROBED = (
    "tool\tctr\t/usr/local/bin/ctr\n"
    "runtime\t/run/containerd/containerd.sock\tcontainerd.service\t/usr/local/bin/containerd\t"
    "/usr/local/bin/containerd \n"
    "tool\tctr\t/usr/local/bin/ctr\n"
    "tool\tcontainerd\t/usr/local/bin/containerd\n"
    "kubelet\t\tkubelet.service\t/usr/local/bin/embedded-k8s\t/usr/local/bin/kubelet "
    "--config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.conf --node-ip=192.168.122.211 \n"
    "endpoint\tunix:///run/containerd/containerd.sock\n"
    "unit\tkubelet.service\n"
    "unit\tcontainerd.service\n"
)
"""Output of ``node_runtime.PROBE`` on a node of the lab."""
RUNTIME = node_runtime.parse("node1", PROBED)
