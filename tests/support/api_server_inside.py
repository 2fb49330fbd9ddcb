"""A real API server without nodes, for programs that tests run in namespaces of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient

from mock_device.lab.base.processes import Children
from mock_device.lab.controlplane.bootstrap import bootstrap
from mock_device.lab.controlplane.components import wait_ready
from mock_device.lab.controlplane.controlplane import API_SERVER, ControlPlane
from mock_device.lab.controlplane.kubeconfig import write_kubeconfig
from mock_device.lab.controlplane.pki import create_pki
from mock_device.lab.kube import kubeclient
from support.control_plane_inside import set_up_network

Report = Mapping[str, Any]


async def with_api_server(run: Callable[[ApiClient, Path, Path], Report], binaries: Path, folder: Path) -> Report:
    """Start etcd and an API server with files in ``folder``; what ``run`` returns for client, kubeconfig and folder."""
    await asyncio.to_thread(set_up_network)
    pki = create_pki(folder / "pki", [])
    logs = folder / "logs"
    logs.mkdir()
    children = Children(logs, lambda child: None)
    plane = ControlPlane(binaries, folder / "control-plane", pki)
    plane.prepare()
    components = {component.name: component for component in plane.components()}
    for name in ("etcd", "kube-apiserver"):
        component = components[name]
        await children.start(name, component.argv, cwd=folder, env=component.env)
        await wait_ready(component, children[name])
    await asyncio.to_thread(bootstrap, pki, dns=False)
    kubeconfig = write_kubeconfig(folder / "kubeconfig", pki.identity("admin"), API_SERVER)
    report = await asyncio.to_thread(run, kubeclient.connect(kubeconfig), kubeconfig, folder)
    await children.kill_all()
    return report
