"""``lab logs`` on recorded logs, and ``lab verbosity`` with its signal."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from dra_fakes.answers import Answers, Object, api_server, listing
from mock_accel_dra import klog
from support.recorded_cluster import NODE1, NODE2
from support.topologies import CLUSTER

from mock_device.checks.driver import logs as driver_logs
from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.lab.base.paths import PROJECT
from mock_device.tools import logs, verbosity
from mock_device.tools.logs import CALLS, Selection, Severity

AGENT = """\
I1125 03:50:01.000100       1 agent.py:110] "Devices of this node" count=6 added=["mock0"] removed=[]
I1125 03:52:00.100000       1 rpc.py:46] "NodePrepareResources" claims=["user"]
I1125 03:52:00.300000       1 prepare.py:95] "Prepared claim" claim="default/user" uid="u" devices=["mock0"]
E1125 03:53:00.000000       1 agent.py:114] "Slices are not published" err="503 Service \\"Unavailable\\""
Traceback (most recent call last):
"""
CONTROLLER = """\
starts
I1125 03:51:00.000000       1 controller.py:84] "Discovered 12 devices" nodes=2
W1125 03:54:00.000000       1 watch.py:44] "Watch failed" path="/apis" retrySeconds=1.0
"""
LOGS = [("agent", AGENT), ("controller", CONTROLLER)]
PODS = "/api/v1/namespaces/mock-device/pods"


def starts(selection: Selection) -> list[str]:
    return [f"{line.pod} {line.text[:5]}" for line in logs.select(LOGS, selection)]


def test_lines_of_all_pods_are_sorted_by_time() -> None:
    assert starts(Selection()) == [
        "controller start",
        "agent I1125",
        "controller I1125",
        "agent I1125",
        "agent I1125",
        "agent E1125",
        "agent Trace",
        "controller W1125",
    ]
    first = logs.select(LOGS, Selection())[1]
    assert str(first) == f"agent\t{AGENT.splitlines()[0]}"


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (Severity.WARNING, ["agent E1125", "agent Trace", "controller W1125"]),
        (Severity.ERROR, ["agent E1125", "agent Trace"]),
    ],
)
def test_continuation_lines_have_the_severity_of_their_header(severity: Severity, expected: list[str]) -> None:
    assert starts(Selection(severity=severity)) == expected


def test_lines_are_selected_by_calls_and_text() -> None:
    assert [line.message for line in logs.select(LOGS, Selection(calls=True))] == [
        "NodePrepareResources",
        "Prepared claim",
    ]
    words = Selection(grep=re.compile(r"Discovered \d+"))
    assert [line.message for line in logs.select(LOGS, words)] == ["Discovered 12 devices"]


def test_calls_match_the_messages_of_the_driver() -> None:
    folder = PROJECT / "dra-driver" / "mock_accel_dra"
    prepare = "".join((folder / name).read_text() for name in ("prepare.py", "claimed_devices.py"))
    calls, _, _ = (folder / "rpc.py").read_text().partition("def health_handlers")
    said = set(re.findall(r'klog\.(?:info|warning|error)\((?:klog\.\w+, )?"([^"]+)"', prepare + calls))
    assert said == CALLS


def test_lines_of_the_driver_are_parsed() -> None:
    stream = io.StringIO()
    klog.configure(klog.STATE, stream)
    try:
        klog.error('It "failed"', err="because")
    finally:
        klog.configure(klog.STATE)
    line = logs.Parser("agent").line(stream.getvalue().rstrip())
    assert (line.severity, line.message) == ("E", 'It "failed"')
    assert re.fullmatch(r"\d{4} \d\d:\d\d:\d\d\.\d{6}", line.stamp)


def pod(name: str, node: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}}


def session(api: Any) -> Any:
    return SimpleNamespace(api=api, topology=CLUSTER)


def test_logs_are_read_and_followed() -> None:
    answers: Answers = {PODS: listing(pod("agent", NODE1)), f"{PODS}/agent/log": (200, {"one": "line"})}
    selection = Selection(Component.NODE_AGENT, NODE1, since=300)
    with api_server(answers) as api:
        (line,) = logs.read(session(api), selection)
        assert str(line) == 'agent\t{"one": "line"}'
        assert list(logs.follow(session(api), selection, seconds=20)) == [line]


def test_node_without_pods_and_unknown_node_are_errors() -> None:
    with api_server({PODS: listing(pod("agent", NODE1))}) as api:
        with pytest.raises(CheckError) as caught:
            logs.read(session(api), Selection(Component.NODE_AGENT, NODE2))
        assert str(caught.value) == f"no pod of mock-accel-node-agent on {NODE2}; see: lab diagnose"
        with pytest.raises(KeyError, match=f"it has {NODE1}, {NODE2}"):
            logs.read(session(api), Selection(node="node9"))


def test_pod_without_a_log_does_not_hide_the_others() -> None:
    answers: Answers = {PODS: listing(pod("agent", NODE1)), f"{PODS}/agent/log": (400, {"message": "waiting to start"})}
    with api_server(answers) as api:
        assert logs.read(session(api), Selection(Component.NODE_AGENT)) == []


def test_unreadable_log_is_reported_and_the_others_shown() -> None:
    """A node whose kubelet does not answer the API server."""
    answers: Answers = {
        PODS: listing(pod("agent1", NODE1), pod("agent2", NODE2)),
        f"{PODS}/agent1/log": (502, {"message": "dial tcp: i/o timeout"}),
        f"{PODS}/agent2/log": (200, 'E1125 03:50:01.000100       1 agent.py:110] "Said"\n'),
    }
    with api_server(answers) as api:
        for selection in (Selection(Component.NODE_AGENT), Selection(Component.NODE_AGENT, severity=Severity.ERROR)):
            lines = {line.pod: line.text for line in logs.read(session(api), selection)}
            assert lines["agent1"] == "no log: 502: dial tcp: i/o timeout"
            assert lines["agent2"].endswith('"Said"')
            assert {line.pod: line.text for line in logs.follow(session(api), selection, seconds=20)} == lines
        calls = Selection(Component.NODE_AGENT, calls=True)
        assert [line.pod for line in logs.read(session(api), calls)] == ["agent1"]
        del answers[f"{PODS}/agent2/log"]
        with pytest.raises(CheckError, match="agent1\tno log: 502: dial tcp: i/o timeout\nagent2\tno log: 404: "):
            logs.read(session(api), Selection(Component.NODE_AGENT))


@pytest.mark.parametrize("level", verbosity.LEVELS)
def test_command_sends_the_signal_of_the_level(level: int) -> None:
    """Sent to a waiting process instead of process 1 of a container."""
    waits = (
        "import signal, sys; number = signal.SIGRTMIN + int(sys.argv[1]); signal.pthread_sigmask(0, [number]); "
        "print('ready', flush=True); print(int(signal.sigtimedwait([number], 20).si_signo))"
    )
    with subprocess.Popen([sys.executable, "-c", waits, str(level)], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        _, *arguments = verbosity.command(level)
        arguments[-1] = arguments[-1].replace("kill(1,", f"kill({waiting.pid},")
        subprocess.run([sys.executable, *arguments], check=True)
        assert int(waiting.stdout.readline()) == signal.SIGRTMIN + level == 34 + level


def test_confirmation_of_the_driver_matches() -> None:
    line = 'I1125 03:50:01.000100       1 cli.py:150] "Verbosity" v=5'
    assert re.search(driver_logs.verbosity(5), line)
    assert not re.search(driver_logs.verbosity(4), line)
    assert not re.search(driver_logs.verbosity(5), f"{line}0")


def test_module_loader_without_pods_of_ours_is_named() -> None:
    answers: Answers = {
        PODS: listing(),
        "/apis/kmm.sigs.x-k8s.io/v1beta1": (200, {"kind": "APIResourceList", "groupVersion": "x", "resources": []}),
    }
    with (
        api_server(answers) as api,
        pytest.raises(CheckError, match="KMM loads the kernel module, .* logs --all-namespaces --prefix -l app.kub"),
    ):
        logs.pods(session(api), Component.MODULE_LOADER, None)


@pytest.mark.parametrize(
    ("level", "component", "message"),
    [
        (1, None, "expected a verbosity from 2 to 6, found 1"),
        (7, None, "expected a verbosity from 2 to 6, found 7"),
        (
            5,
            Component.MODULE_LOADER,
            "mock-accel-kmod has no verbosity; mock-accel-node-agent and mock-accel-controller have",
        ),
    ],
)
def test_invalid_verbosity_is_rejected(level: int, component: Component | None, message: str) -> None:
    with pytest.raises(CheckError) as caught:
        verbosity.set_level(session(None), level, component, timeout=timedelta(seconds=1))
    assert str(caught.value) == message
