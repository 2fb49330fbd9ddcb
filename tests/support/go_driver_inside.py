"""Runs the driver in Go beside a real control plane, calls it as the kubelet does, and prints what is wrong as JSON.

Started by ``test_go_driver_serves.py`` as the first process of namespaces, like ``scheduler_inside.py``. The driver has
the rights of its manifests, and finds the devices of the topology's first node in a sysfs made of files. Without a
kubelet nobody prepares claims but this program.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client import ApiClient

from mock_device.checks.driver import plugin_answers, plugin_calls
from mock_device.checks.errors import CheckError
from mock_device.checks.layers import standard_attributes
from mock_device.checks.nodes import cdi_edits
from mock_device.checks.objects import claim_objects, kube, pods, slice_repair, slices
from mock_device.driver import current, description
from mock_device.lab.cluster.cluster import NodeAccess
from mock_device.lab.controlplane.pki import Identity
from mock_device.lab.kube import manifests
from support.claim_cases import asks, request
from support.recorded_cluster import NODE1
from support.scheduler_inside import add_nodes, apply, on_control_plane
from support.topologies import CLUSTER

Object = dict[str, Any]
SECONDS = timedelta(seconds=60)
DRIVER = description.load("go-driver")
NODE = CLUSTER.nodes[0]
PF_ID = "0x0001"
# Forwards a socket on this machine: -L LOCAL:REMOTE
SSH = f"""#!{sys.executable}
import os, sys, time
local, _, remote = sys.argv[sys.argv.index('-L') + 1].partition(':')
os.symlink(remote, local)
time.sleep(600)
"""


def make_sysfs(root: Path) -> None:
    """A sysfs with the PFs of the node."""
    links = root / "bus/pci/devices"
    links.mkdir(parents=True)
    for function in NODE.functions:
        if function.is_vf:
            continue
        folder = root / "devices" / NODE.pcie_root_of(function) / function.bdf
        folder.mkdir(parents=True)
        for name, value in {"vendor": "0x1de5", "device": PF_ID, "numa_node": str(function.numa_node)}.items():
            (folder / name).write_text(f"{value}\n")
        (folder / "config").write_bytes(bytes.fromhex("e51d0100"))
        (links / function.bdf).symlink_to(f"../../../{folder.relative_to(root)}")


def kubeconfig_of_account(api: ApiClient, authority: Path, path: Path) -> Path:
    """A kubeconfig with a token of the driver's service account."""
    body: Any = {"spec": {"audiences": [], "expirationSeconds": 600}}
    account = DRIVER.node_agent.service_account
    answer: Any = client.CoreV1Api(api).create_namespaced_service_account_token(account, DRIVER.namespace, body)
    cluster = {
        "server": api.configuration.host,
        "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": answer.status.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return path


class Node:
    """Stands for the session of a cluster whose node is this machine, with the kubelet's data in ``root``."""

    def __init__(self, root: Path) -> None:
        access = NodeAccess(NODE1, "127.0.0.1", 22, "root", root / "key", root / "known_hosts")
        self.cluster = SimpleNamespace(node=lambda _: access)
        self._root = root

    def runtime(self, _: str) -> Any:
        return SimpleNamespace(kubelet_root=str(self._root))

    def on_node(self, _: str, command: str) -> str:
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


def until(done: Callable[[], Any]) -> Any:
    """The result of ``done`` when it is true, or at the deadline."""
    end = time.monotonic() + SECONDS.total_seconds()
    while not (found := done()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def reason(call: Callable[[], Any]) -> str:
    """Why ``call`` fails; empty if it does not."""
    try:
        call()
    except CheckError as error:
        return str(error)
    return ""


def use(api: ApiClient, name: str) -> None:
    """A claim for one device, and its pod: the scheduler allocates."""
    pod = pods.build(name, [name], None, kube.LABELS)
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    apply(api, [asks(request(device_class=DRIVER.device_class("pf")), name=name), pod])
    until(lambda: (kube.get_claim(api, name).get("status") or {}).get("allocation"))


def edits(folder: Path) -> dict[str, cdi_edits.Edits]:
    files = [
        f"file\t{path}\n" + "".join(f"+{line}\n" for line in path.read_text().splitlines())
        for path in folder.glob("*.json")
    ]
    return cdi_edits.parse_files("here", "".join(files) + f"{cdi_edits.END}\n")


def ask(api: ApiClient, node: Any, cdi: Path) -> Object:
    """Complaints about what the driver answers and publishes, by promise."""
    found: Object = {}
    expected = sum(not function.is_vf for function in NODE.functions)
    until(lambda: len(slices.published(api)) == expected)
    published = slices.published(api)
    before = slice_repair.content(published)
    found["published"] = len(published) - expected
    found["attributes"] = standard_attributes.complaints(CLUSTER, published)
    found["addressed"] = len(standard_attributes.addressed(published)) - expected
    found["info"] = plugin_answers.info_complaints(plugin_calls.info(node, NODE1, DRIVER.name), DRIVER.name)
    for name in ("first", "second"):
        use(api, name)
    first, second = (plugin_calls.claim_on_node(api, name) for name in ("first", "second"))
    with plugin_calls.plugin(node, NODE1, DRIVER.name) as plugin:
        prepared, again = plugin.prepare([first, second]), plugin.prepare([first, second])
        found["entries"] = plugin_answers.entry_complaints(prepared)
        found["devices"] = plugin_answers.device_complaints(prepared)
        found["again"] = plugin_answers.differences(prepared, again)
        known = edits(cdi)
        found["cdi"] = plugin_answers.cdi_complaints(prepared, known)
        found["environment"] = sorted(
            line.partition("=")[0][:9] for name in prepared.cdi for line in known[name].environment
        )
        found["health"] = plugin_answers.health_complaints(plugin.health(), before)
        other = replace(first, uid="0b1c8a5e-0000-4000-8000-000000000000")
        found["other uid"] = plugin_calls.refusal("claim", lambda: plugin.prepare([other]))
        apply(api, [asks(request(device_class=DRIVER.device_class("pf")), name="third")])
        waiting = plugin_calls.unallocated_on_node(api, "third", NODE1)
        found["unallocated"] = plugin_calls.refusal("claim", lambda: plugin.prepare([waiting]))
        claim_objects.copy_allocation(api, "first", "third")
        third = plugin_calls.claim_on_node(api, "third")
        found["in use"] = plugin_calls.refusal("claim", lambda: plugin.prepare([third]))
        found["unprepare"] = [plugin.unprepare([first]), plugin.unprepare([first])]
        found["free again"] = plugin_answers.entry_complaints(plugin.prepare([third]))
        plugin.unprepare([second])
        plugin.unprepare([third])
    found["files left"] = sorted(path.name for path in cdi.iterdir())
    slice_repair.delete_of_node(api, NODE1)
    found["deleted slices"] = reason(lambda: slice_repair.wait_restored(api, before, SECONDS))
    slice_repair.strip_first(api, NODE1)
    found["changed slices"] = reason(lambda: slice_repair.wait_restored(api, before, SECONDS))
    return found


def run(program: Path, folder: Path, api: ApiClient, admin: Identity) -> Object:
    root, cdi, sysfs, log = folder / "k", folder / "cdi", folder / "sys", folder / "logs" / "driver.log"
    for path in (root / "plugins" / DRIVER.name, root / "plugins_registry", cdi, folder / "bin"):
        path.mkdir(parents=True)
    ssh = folder / "bin" / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    os.environ["PATH"] = f"{ssh.parent}:{os.environ['PATH']}"
    make_sysfs(sysfs)
    current.use(DRIVER, CLUSTER)
    add_nodes(admin)
    for manifest in DRIVER.manifests:
        manifests.apply(api, manifest)
    account = kubeconfig_of_account(api, admin.ca, folder / "account")
    argv = [program, "--node", NODE1, "--sysfs", sysfs, "--cdi", cdi, "--kubelet", root, "--kubeconfig", account]
    with log.open("wb") as said:
        driver = subprocess.Popen([*map(str, argv), "--pod-uid", "uid-1", "--v=4"], stdout=said, stderr=said)
    until(lambda: [*(root / "plugins_registry").glob("*.sock")] or driver.poll() is not None)
    if driver.poll() is not None:
        raise RuntimeError(log.read_text())
    report = ask(api, Node(root), cdi)
    driver.terminate()
    report["exit code"] = driver.wait(SECONDS.total_seconds())
    report["sockets left"] = [path.name for path in root.rglob("*.sock")]
    return report


def main(binaries: Path, program: Path, folder: Path) -> Object:
    return asyncio.run(on_control_plane(binaries, folder, lambda api, admin: run(program, folder, api, admin)))


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
