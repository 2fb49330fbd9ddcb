"""The manifests agree with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from mock_accel_dra.cli import parse
from mock_accel_dra.settings import AgentSettings

COMPONENT = Path(__file__).parents[1]
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (item["kind"], item["metadata"]["name"]): item
    for path in sorted((COMPONENT / "manifests").glob("*.yaml"))
    for item in yaml.safe_load_all(path.read_text())
}


def container(kind: str, name: str) -> dict[str, Any]:
    (found,) = OBJECTS[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_names_and_labels() -> None:
    for kind, name in (("DaemonSet", "mock-accel-node-agent"), ("Deployment", "mock-accel-controller")):
        item = OBJECTS[kind, name]
        assert item["metadata"]["namespace"] == "mock-device"
        assert item["spec"]["template"]["metadata"]["labels"]["app"] == name
        assert container(kind, name)["imagePullPolicy"] == "IfNotPresent"
    assert {name for kind, name in OBJECTS if kind == "DeviceClass"} == {"mock-accel-pf", "mock-accel-vf"}


def test_the_agent_has_the_folders_it_writes_to() -> None:
    agent = container("DaemonSet", "mock-accel-node-agent")
    downward = {"spec.nodeName": "node1", "metadata.uid": "00000000-0000-0000-0000-000000000000"}
    environment = {
        entry["name"]: entry.get("value") or downward[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in agent["env"]
    }
    settings, _ = parse(agent["args"], environment)
    assert isinstance(settings, AgentSettings)
    mounted = {mount["mountPath"]: mount for mount in agent["volumeMounts"]}
    for path in (settings.plugin_dir, settings.registry_dir, settings.cdi_root, settings.sysfs_root / "devices"):
        assert not mounted[str(path)].get("readOnly"), path
    assert mounted[str(settings.sysfs_root / "class")]["readOnly"]
    volumes = OBJECTS["DaemonSet", "mock-accel-node-agent"]["spec"]["template"]["spec"]["volumes"]
    host = {volume["name"]: volume["hostPath"]["path"] for volume in volumes}
    for path in (settings.plugin_dir, settings.registry_dir):  # the driver sends these paths to the kubelet
        assert host[mounted[str(path)]["name"]] == str(path)


def test_least_privilege() -> None:
    for kind, name in (("DaemonSet", "mock-accel-node-agent"), ("Deployment", "mock-accel-controller")):
        pod = OBJECTS[kind, name]["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        security = container(kind, name)["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        parse(container(kind, name)["args"], {"NODE_NAME": "node1"})


def test_no_rule_has_a_wildcard() -> None:
    for (kind, _), item in OBJECTS.items():
        if kind == "ClusterRole":
            assert "*" not in str(item["rules"])
