"""``suites/numa.robot`` fails in the right test when the system is broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from kubernetes import client
from support.suite_run import run_suite, statuses

from mock_device.checks.driver import driver
from mock_device.lab.cluster import deploy
from mock_device.lab.cluster.cluster import Cluster
from mock_device.lab.kube import kubeclient

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

FIRST = "Nodes Are Ready And Run Containers By The Profile's Runtime"
PCI_BUS = "Guest PCI Bus Agrees With Topology"
SYSFS = "Sysfs Agrees With Topology"
SLICES = "ResourceSlices Agree With Topology"

WRONG = "mock1"
# Python imports the module sitecustomize when it starts, before the driver.
SITECUSTOMIZE = dedent(f"""\
    from dataclasses import replace
    from mock_accel_dra import discovery

    right = discovery.scan

    def wrong(*arguments, **options):
        found = right(*arguments, **options)
        devices = [replace(d, numa_node=1 - d.numa_node) if d.name == "{WRONG}" else d for d in found.devices]
        return replace(found, devices=tuple(devices))

    discovery.scan = wrong
    """)
FAULT = "wrong-numa-node"
TIMEOUT = timedelta(minutes=10)


def test_guest_with_wrong_wiring_fails_the_pci_bus_test(miswired: Path) -> None:
    tests = run_suite("numa", "miswired-guest", "--variable", f"TOPOLOGY:{miswired}")
    assert statuses(tests) == {FIRST: "PASS", PCI_BUS: "FAIL"}
    assert tests[PCI_BUS].message == (
        "miswired-node mock2 (0000:21:00.0): expected NUMA node 1 by topology miswired, guest PCI bus says 0"
    )


@pytest.fixture
def driver_with_wrong_numa_node(cluster: Cluster) -> Iterator[None]:
    """The node agents publish device mock1 of every node with the wrong NUMA node."""
    api = kubeclient.connect(cluster.kubeconfig)
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    right = api.sanitize_for_serialization(  # type: ignore[no-untyped-call]
        apps.read_namespaced_daemon_set(deploy.NODE_AGENT, deploy.NAMESPACE).spec.template
    )
    core.create_namespaced_config_map(
        deploy.NAMESPACE,
        client.V1ConfigMap(metadata=client.V1ObjectMeta(name=FAULT), data={"sitecustomize.py": SITECUSTOMIZE}),
    )
    nodes = len(cluster.topology.nodes)
    try:
        driver.change_agents(api, with_fault(right), nodes, TIMEOUT)
        yield
    finally:
        driver.change_agents(api, {"$patch": "replace", **right}, nodes, TIMEOUT)
        core.delete_namespaced_config_map(FAULT, deploy.NAMESPACE)


def with_fault(template: dict[str, Any]) -> dict[str, Any]:
    """A strategic merge patch that puts SITECUSTOMIZE before the driver's modules."""
    (container,) = template["spec"]["containers"]
    path = "/opt/mock-accel:/opt/mock-accel/site-packages"
    patched = {
        "name": container["name"],
        "env": [{"name": "PYTHONPATH", "value": f"/{FAULT}:{path}"}],
        "volumeMounts": [{"name": FAULT, "mountPath": f"/{FAULT}"}],
    }
    return {"spec": {"containers": [patched], "volumes": [{"name": FAULT, "configMap": {"name": FAULT}}]}}


@pytest.mark.usefixtures("driver_with_wrong_numa_node")
def test_driver_with_a_wrong_numa_node_fails_the_slices_test(cluster: Cluster) -> None:
    tests = run_suite("numa", FAULT)
    assert statuses(tests) == {FIRST: "PASS", PCI_BUS: "PASS", SYSFS: "PASS", SLICES: "FAIL"}
    assert tests[SLICES].message.splitlines() == [
        f"{node.name} {WRONG} ({function.bdf}): expected NUMA node {function.numa_node} "
        f"by topology numa-cluster, ResourceSlice says {1 - function.numa_node}"
        for node in cluster.topology.nodes
        for function in node.functions
        if function.name == WRONG
    ], json.dumps(statuses(tests))
