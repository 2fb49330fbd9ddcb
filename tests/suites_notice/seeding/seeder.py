"""Seeds faults into a running cluster, and removes them."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

from kubernetes.client import AppsV1Api, CoreV1Api, V1ConfigMap, V1ObjectMeta
from suites_notice.seeding.catalogue import Fault

from mock_device.checks.driver import driver, module_loading
from mock_device.checks.nodes.node_shell import NodeShell
from mock_device.checks.nodes.session import Session
from mock_device.checks.waiting import until_no_complaints
from mock_device.diagnosis import health
from mock_device.driver import current
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.files import write_file
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.build import kbuild
from mock_device.lab.cluster import client
from mock_device.lab.guest.monitor import device_add_arguments
from mock_device.lab.kube import kubeclient, manifests
from mock_device.names import NAMESPACE
from mock_device.topology import Node, Slot

HOOK = Path(__file__).with_name("hook")
_REPLACING = Path(__file__).with_name("replacing.py")
_NAME = "seeded-fault"
_DRIVER_PATH = "/opt/mock-accel:/opt/mock-accel/site-packages"
_MODULE = "/run/seeded-fault.ko"
_TIMEOUT = timedelta(minutes=10)
_HEALTHY = timedelta(minutes=5)
_GONE_SECONDS = 60.0


def environment(folder: Path) -> dict[str, str]:
    """Variables of a process whose device servers read faults from ``folder``."""
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "SEEDED_FAULTS": str(folder)}


class Seeder:
    """Seeds faults into one cluster.

    Its device servers must have been started with ``environment(folder)``.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Hold the running cluster ``name``. Raises StepError."""
        self._cluster = client.attach(name, "seeded faults")
        self._folder = folder
        self._session = Session(self._cluster, NodeShell)
        self._api = self._session.api
        self._nodes = self._cluster.topology.nodes

    def close(self) -> None:
        """Close the connections to the nodes, and release the cluster."""
        self._session.close()

    def seeded(self, fault: Fault) -> AbstractContextManager[None]:
        """The system has ``fault`` in this block. Raises StepError, CheckError or AssertionError."""
        kinds: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
            "driver": self._driver,
            "server": self._server,
            "module": self._module,
            "nodes": self._on_nodes,
            "object": self._object,
            "swap-slots": self._swapped_slots,
        }
        return kinds[fault.kind](fault.change)

    def wait_healthy(self) -> None:
        """Wait until the cluster is as it was before; CheckError says what is not."""
        until_no_complaints(
            lambda: health.complaints_of(self._session, all_free=True), _HEALTHY, "the cluster is not healthy again"
        )

    @contextmanager
    def _driver(self, code: str) -> Iterator[None]:
        core, apps = CoreV1Api(self._api), AppsV1Api(self._api)
        found: Any = apps.read_namespaced_daemon_set(current.driver().node_agent.workload, NAMESPACE)
        right = kubeclient.as_json(self._api, found.spec.template)
        data = {"sitecustomize.py": _program(code)}
        config = V1ConfigMap(metadata=V1ObjectMeta(name=_NAME), data=data)
        core.create_namespaced_config_map(NAMESPACE, config)
        (container,) = right["spec"]["containers"]
        patched = {
            "name": container["name"],
            # Python imports sitecustomize when it starts, before the driver.
            "env": [{"name": "PYTHONPATH", "value": f"/{_NAME}:{_DRIVER_PATH}"}],
            "volumeMounts": [{"name": _NAME, "mountPath": f"/{_NAME}"}],
        }
        wrong = {"spec": {"containers": [patched], "volumes": [{"name": _NAME, "configMap": {"name": _NAME}}]}}
        try:
            driver.change_agents(self._api, wrong, len(self._nodes), _TIMEOUT)
            yield
        finally:
            driver.change_agents(self._api, {"$patch": "replace", **right}, len(self._nodes), _TIMEOUT)
            core.delete_namespaced_config_map(_NAME, NAMESPACE)

    @contextmanager
    def _server(self, code: str) -> Iterator[None]:
        path = self._folder / f"server-{self._cluster.name}.py"
        write_file(path, _program(code))
        try:
            self._restart_servers()
            yield
        finally:
            path.unlink()
            self._restart_servers()

    def _restart_servers(self) -> None:
        for node in self._nodes:
            for slot in node.slots:
                self._cluster.guests.unplug(node.name, slot.root_port)
            self._cluster.guests.kill_device_server(node.name)
            self._cluster.guests.start_device_server(node.name)
            for slot in node.slots:
                self._cluster.guests.plug(node.name, slot.root_port)

    @contextmanager
    def _module(self, change: dict[str, str]) -> Iterator[None]:
        module = base64.b64encode(_module_with(change).read_bytes()).decode()
        control = module_loading.of_cluster(self._api)
        for node in self._nodes:
            control.unload(node.name)
            for start in range(0, len(module), 64 << 10):
                self._session.on_node(node.name, f"echo {module[start : start + (64 << 10)]} >> {_MODULE}.txt")
            self._session.on_node(node.name, f"base64 -d {_MODULE}.txt > {_MODULE}; insmod {_MODULE}")
        try:
            yield
        finally:
            for node in self._nodes:
                self._session.on_node(node.name, f"rmmod mock_accel; rm -f {_MODULE} {_MODULE}.txt")
                control.load(node.name)

    @contextmanager
    def _on_nodes(self, commands: dict[str, str]) -> Iterator[None]:
        try:
            self._session.on_nodes(commands["do"])
            yield
        finally:
            self._session.on_nodes(commands["undo"])

    @contextmanager
    def _object(self, change: dict[str, Any]) -> Iterator[None]:
        with manifests.dynamic_client(self._api) as dynamic:
            resource = dynamic.resources.get(api_version=change["apiVersion"], kind=change["kind"])
            before = dynamic.get(resource, name=change["name"]).to_dict()
            try:
                if "patch" in change:
                    content_type = "application/json-patch+json"
                    dynamic.patch(resource, name=change["name"], body=change["patch"], content_type=content_type)
                else:
                    dynamic.delete(resource, name=change["name"])
                yield
            finally:
                manifests.apply_objects(self._api, [_applicable(before)])

    @contextmanager
    def _swapped_slots(self, _: object) -> Iterator[None]:
        """The devices of the first two slots with as many functions are behind each other's root port."""
        node = self._nodes[0]
        one, other = _alike(node)
        self._plug_swapped(node, one, other)
        try:
            yield
        finally:
            for slot in (one, other):
                self._cluster.guests.unplug(node.name, slot.root_port)
            for slot in (one, other):
                self._cluster.guests.plug(node.name, slot.root_port)

    def _plug_swapped(self, node: Node, one: Slot, other: Slot) -> None:
        for slot in (one, other):
            self._cluster.guests.unplug(node.name, slot.root_port)
        for slot, wrong in ((one, other), (other, one)):
            for arguments in device_add_arguments(slot, Path(node.name)):
                self._cluster.guests.qmp(node.name, "device_add", **(arguments | {"bus": wrong.root_port}))


def _program(code: str) -> str:
    return f"{_REPLACING.read_text()}\n\n{dedent(code)}"


def _module_with(change: dict[str, str]) -> Path:
    """The kernel module with one change in its source. Raises StepError if its source has no such text."""
    source = PROJECT / "kernel-driver" / change["file"]
    text = source.read_text()
    if text.count(change["old"]) != 1:
        raise StepError(f"{source}: expected once, found {text.count(change['old'])} times: {change['old']!r}")

    with tempfile.TemporaryDirectory(prefix="seeded-fault-") as folder:
        changed = Path(folder, "module")
        shutil.copytree(source.parent, changed, ignore=shutil.ignore_patterns("tests"))
        (changed / change["file"]).write_text(text.replace(change["old"], change["new"]))
        return kbuild.build_module_from(changed)


def _alike(node: Node) -> tuple[Slot, Slot]:
    one, *others = node.slots
    other = next(slot for slot in others if len(slot.functions) == len(one.functions))
    return one, other


def _applicable(item: dict[str, Any]) -> dict[str, Any]:
    """An object that was read, as it can be applied again."""
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "labels") if key in item["metadata"]}
    return {key: value for key, value in item.items() if key != "status"} | {"metadata": metadata}
