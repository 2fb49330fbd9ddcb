"""Evidence of a failure: what is collected, in bounded time and size, and the links in a test's log."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, api_server, listing
from kubernetes import client
from kubernetes.client import ApiClient
from robot.api import ExecutionResult

from mock_device.checks import evidence
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.cluster.cluster import ALWAYS, Capability
from mock_device.lab.cluster.node_runtime import HAS_UNIT

POD = {"metadata": {"name": "agent-1", "managedFields": [{"manager": "kubelet"}]}, "spec": {"containers": []}}


def test_answers_are_written_and_failures_listed(tmp_path: Path) -> None:
    def fails() -> evidence.Files:
        raise StepError("node1: no answer")

    asked: dict[str, Callable[[], evidence.Files]] = {
        "pods": lambda: {"pods.json": "[]"},
        "node node1": fails,
        "logs": lambda: {"logs/qemu.log": b"\xff"},
    }
    files = evidence.collect(asked, tmp_path / "A.b")
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "A.b/logs/qemu.log",
        "A.b/pods.json",
        "A.b/problems.txt",
    ]
    assert files[0].read_bytes() == b"\xff"
    assert files[2].read_text() == "node node1: StepError: node1: no answer"


@pytest.mark.parametrize(("capabilities", "asked"), [(frozenset(Capability), True), (ALWAYS, False)])
def test_only_clusters_of_the_lab_have_its_processes(capabilities: frozenset[Capability], asked: bool) -> None:
    session: Any = SimpleNamespace(
        api=ApiClient(), node_names=["node1"], cluster=SimpleNamespace(capabilities=capabilities)
    )
    found = evidence.sources(session)
    assert "node node1" in found
    assert {name in found for name in ("supervisor", "logs of the cluster's processes")} == {asked}


def test_silent_sources_are_listed(tmp_path: Path) -> None:
    answer = threading.Event()

    def late() -> evidence.Files:
        answer.wait(60)
        return {"late.txt": ""}

    begin = time.monotonic()
    try:
        files = evidence.collect(
            {"late": late, "events": lambda: {"events.tsv": ""}}, tmp_path / "a", timedelta(seconds=0.5)
        )
        assert time.monotonic() - begin < 10
    finally:
        answer.set()
    assert [path.name for path in files] == ["events.tsv", "problems.txt"]
    assert files[1].read_text() == "late: no answer in time"


def test_end_of_a_long_file_is_kept_and_old_evidence_removed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    evidence.collect({"old": lambda: {"old/old.txt": "old"}}, folder)
    (path,) = evidence.collect({"log": lambda: {"log.txt": "x" * evidence.FILE_BYTES + "end"}}, folder)
    assert path.stat().st_size == evidence.FILE_BYTES
    assert path.read_text().endswith("xend")
    assert list(folder.rglob("*")) == [path]


def test_objects_are_raw_without_managed_fields() -> None:
    with api_server({"/api/v1/pods": listing(POD)}) as api:
        files = evidence._objects(api, "pods", client.CoreV1Api(api).list_pod_for_all_namespaces)
    assert '"agent-1"' in str(files["pods.json"])
    assert "managedFields" not in str(files["pods.json"])


def driver_pod(name: str, namespace: str, *paths: str, restarts: int = 0) -> dict[str, Any]:
    volumes = [{"name": "x", "emptyDir": {}}, *({"name": path, "hostPath": {"path": path}} for path in paths)]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"volumes": volumes, "initContainers": [{"name": "init"}], "containers": [{"name": "plugin"}]},
        "status": {"containerStatuses": [{"name": "plugin", "restartCount": restarts}]},
    }


DRIVER_PODS = [
    driver_pod("agent", "mock-device", "/var/lib/kubelet/plugins_registry"),
    driver_pod("controller", "mock-device"),
    driver_pod("gpu-plugin", "gpu-operator", "/var/lib/kubelet/plugins"),
    driver_pod("gpu-webhook", "gpu-operator"),
    driver_pod("nic-plugin", "default", "/var/lib/kubelet/plugins/nic.example.com"),
]
OTHER_PODS = [
    driver_pod("test-pod", "default"),
    driver_pod("dns", "kube-system"),
    driver_pod("collector", "logging", "/var/lib/kubelet/pods", "/var/log"),
    driver_pod("likeness", "elsewhere", "/var/lib/kubelet/plugins-old"),
]


def test_driver_pods_are_recognised_by_plugin_folders() -> None:
    assert evidence.driver_pods([*OTHER_PODS, *DRIVER_PODS], "default") == DRIVER_PODS
    whole = driver_pod("all", "storage", "/var/lib/kubelet/")
    assert evidence.driver_pods([whole], "default") == [whole]


def test_pods_of_the_kmm_operator_count() -> None:
    def pod(name: str, **labels: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "kmm-operator-system", "labels": labels}, "spec": {}}

    operator = pod("kmm-operator-controller", **{"app.kubernetes.io/name": "kmm"})
    beside = pod("beside")
    assert evidence.driver_pods([*OTHER_PODS, operator, beside], "default") == [operator, beside]
    other = pod("other", **{"app.kubernetes.io/name": "other"})
    assert evidence.driver_pods([*OTHER_PODS, other], "default") == []


def test_objects_of_kmm_are_collected_where_there_are_any() -> None:
    with api_server({}) as api:
        assert evidence._kmm_objects(api) == {}
    group = "/apis/kmm.sigs.x-k8s.io/v1beta1"
    module = {"metadata": {"name": "mock-accel", "managedFields": []}}
    answers: Answers = {group: (200, {"kind": "APIResourceList", "groupVersion": "x", "resources": []})}
    for kind in ("modules", "moduleimagesconfigs", "nodemodulesconfigs"):
        answers[f"{group}/{kind}"] = listing(module)
    with api_server(answers) as api:
        found = evidence._kmm_objects(api)
    assert list(found) == ["kmm/modules.json", "kmm/moduleimagesconfigs.json", "kmm/nodemodulesconfigs.json"]
    assert json.loads(found["kmm/modules.json"]) == [{"metadata": {"name": "mock-accel"}}]


def test_logs_of_all_drivers_and_previous_runs_are_collected() -> None:
    """A container without a log does not hide the others."""
    crashed = driver_pod("gpu-plugin", "gpu-operator", "/var/lib/kubelet/plugins", restarts=2)
    answers: Answers = {
        "/api/v1/pods": listing(crashed, driver_pod("agent", "mock-device")),
        "/api/v1/namespaces/gpu-operator/pods/gpu-plugin/log": (200, "listening\n"),
        "/api/v1/namespaces/mock-device/pods/agent/log": (400, {"message": "container is waiting to start"}),
    }
    with api_server(answers) as api:
        files = evidence._driver_logs(api)
    waits = "no log: 400: container is waiting to start"
    assert files == {
        "driver/gpu-operator/gpu-plugin.init.txt": b"listening\n",
        "driver/gpu-operator/gpu-plugin.plugin.txt": b"listening\n",
        "driver/gpu-operator/gpu-plugin.plugin.previous.txt": b"listening\n",
        "driver/mock-device/agent.init.txt": waits,
        "driver/mock-device/agent.plugin.txt": waits,
    }


def test_events_are_sorted_by_time() -> None:
    def event(name: str, **fields: object) -> dict[str, object]:
        return {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": name}, **fields}

    items = [
        event("b", lastTimestamp="2026-01-01T00:00:09Z", type="Warning", reason="Failed", message="two\nlines"),
        event("a", lastTimestamp=None, eventTime="2026-01-01T00:00:03.1Z", type="Normal", reason="Scheduled"),
    ]
    assert evidence.events_as_text(items).splitlines() == [
        "last seen\ttype\treason\tobject\tmessage",
        "2026-01-01T00:00:03.1Z\tNormal\tScheduled\tPod/a\t",
        "2026-01-01T00:00:09Z\tWarning\tFailed\tPod/b\ttwo lines",
    ]


def test_probe_of_a_node_has_all_sections_despite_failures() -> None:
    units = 'has_unit() { [ "$1" = kubelet ] || [ "$1" = containerd ]; }\n'
    probe = evidence.NODE_PROBE.replace(HAS_UNIT, units)
    run = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    files = evidence.parse_node("node1", run.stdout)
    assert list(files) == [f"node1/{name}.txt" for name in ("dmesg", "kubelet", "containerd", "cdi", "sysfs")]
    assert str(files["node1/sysfs.txt"]).strip().endswith("end")


def test_folder_name_and_links_are_safe(tmp_path: Path) -> None:
    name = evidence.folder_name("SR-IOV", "VFs: 2/2 & more?")
    assert name == "SR-IOV.VFs-2-2-more"
    root = tmp_path / "evidence"
    html = evidence.links(root, [root / name / "node1" / "dmesg.txt", root / name / "a&b #1.txt"])
    assert f'<a href="evidence/{name}/node1/dmesg.txt">node1/dmesg.txt</a>' in html
    assert f'<a href="evidence/{name}/a%26b%20%231.txt">a&amp;b #1.txt</a>' in html
    assert evidence.links(root, []) == "No evidence: no source answered"


SUITE = """\
    *** Settings ***
    Library           EvidenceLibrary.py
    Library           scenario_session.py
    Suite Setup       Begin
    Suite Teardown    Finish

    *** Test Cases ***
    Passes
        Run Keyword And Ignore Error    Fail    expected
    Fails Before Its Teardown
        Run Keyword And Continue On Failure    Fail    first
        Fail    second
        [Teardown]    Fail    third
    Fails Without Teardown
        Fail    alone
    Fails In Its Teardown
        No Operation
        [Teardown]    Fail    late
    Is Skipped
        Skip    no such thing
    """
FAILING_SETUP = """\
    *** Settings ***
    Library           EvidenceLibrary.py
    Library           scenario_session.py
    Suite Setup       Run Keywords    Begin    AND    Fail    no cluster
    Suite Teardown    Finish

    *** Test Cases ***
    One
        No Operation
    Another
        No Operation
    """
# Session of a cluster that does not answer: the evidence must say so, and must not change the tests' results.
SESSION = """\
    from types import SimpleNamespace
    from pathlib import Path
    from kubernetes.client import ApiClient, Configuration
    from mock_device.checks.nodes import session
    from mock_device.lab.cluster.cluster import Capability

    class Session(session.Session):
        api = ApiClient(Configuration(host="http://127.0.0.1:1", retries=0))

    def begin():
        cluster = SimpleNamespace(
            name="gone",
            log_dir=Path(__file__).parent,
            topology=SimpleNamespace(nodes=[]),
            capabilities=frozenset(Capability),
        )
        session._session = Session(cluster, None)

    def finish():
        session._session = None
    """


def run_robot(folder: Path, suite: str, *options: str) -> ElementTree.Element:
    (folder / "scenario_session.py").write_text(dedent(SESSION))
    (folder / "fails.robot").write_text(dedent(suite))
    python_path = f"{PROJECT / 'libraries'}:{folder}"
    argv = [sys.executable, "-m", "robot", "--outputdir", str(folder / "out"), "--pythonpath", python_path, *options]
    run = subprocess.run([*argv, str(folder / "fails.robot")], capture_output=True, text=True, timeout=90, check=False)
    assert (folder / "out" / "log.html").exists(), run.stdout + run.stderr
    assert "Error in" not in run.stderr and "WARN" not in run.stderr
    return ElementTree.parse(folder / "out" / "output.xml").getroot()


def evidence_of(element: ElementTree.Element) -> list[str]:
    return [text for message in element.iter("msg") if "Evidence: " in (text := message.text or "")]


@pytest.mark.slow
def test_failed_tests_have_evidence_once_and_others_none(tmp_path: Path) -> None:
    root = run_robot(tmp_path, SUITE)
    found = {test.get("name"): evidence_of(test) for test in root.iter("test")}
    assert {name: len(messages) for name, messages in found.items()} == {
        "Passes": 0,
        "Fails Before Its Teardown": 1,
        "Fails Without Teardown": 1,
        "Fails In Its Teardown": 1,
        "Is Skipped": 0,
    }
    (message,) = found["Fails Before Its Teardown"]
    (teardown,) = root.findall("./suite/test[@name='Fails Before Its Teardown']/kw[@type='TEARDOWN']")
    # Evidence is collected before the teardown.
    assert [item.get("level") for item in teardown.iter("msg")] == ["INFO", "FAIL"]
    name = "Fails.Fails-Before-Its-Teardown"
    assert f'<a href="evidence/{name}/logs/fails.robot">logs/fails.robot</a>' in message
    assert (tmp_path / "out" / "evidence" / name / "logs" / "fails.robot").is_file()
    problems = (tmp_path / "out" / "evidence" / name / evidence.PROBLEMS).read_text()
    assert "slices: MaxRetryError" in problems
    assert "supervisor: NotRunningError: cluster 'gone'" in problems
    result = ExecutionResult(str(tmp_path / "out" / "output.xml"))
    messages = {test.name: test.message for test in result.suite.all_tests}
    assert messages["Fails Without Teardown"] == "alone"
    assert messages["Fails In Its Teardown"] == "Teardown failed:\nlate"


@pytest.mark.slow
def test_failed_setup_of_a_suite_has_evidence_once(tmp_path: Path) -> None:
    shared = tmp_path / "shared" / "evidence"
    root = run_robot(tmp_path, FAILING_SETUP, "--variable", f"EVIDENCE:{shared}")
    assert len(evidence_of(root)) == 1
    assert [path.name for path in shared.iterdir()] == ["Fails.suite-setup"]
    assert not (tmp_path / "out" / "evidence").exists()


@pytest.mark.slow
def test_tests_that_did_not_run_have_no_evidence(tmp_path: Path) -> None:
    root = run_robot(tmp_path, SUITE, "--exitonfailure")
    assert len(evidence_of(root)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("blocked", ["evidence", "evidence/Fails.Fails-Without-Teardown"])
def test_evidence_that_cannot_be_written_changes_no_result(blocked: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / blocked
    path.parent.mkdir(parents=True)
    path.write_text("in the way")
    (tmp_path / "scenario_session.py").write_text(dedent(SESSION))
    (tmp_path / "fails.robot").write_text(dedent(SUITE))
    argv = [sys.executable, "-m", "robot", "--outputdir", str(tmp_path / "out"), "--test", "Fails Without Teardown"]
    argv += ["--pythonpath", f"{PROJECT / 'libraries'}:{tmp_path}", str(tmp_path / "fails.robot")]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "no evidence of Fails.Fails Without Teardown: " in run.stderr
    (test,) = ExecutionResult(str(tmp_path / "out" / "output.xml")).suite.all_tests
    assert test.message == "alone"
