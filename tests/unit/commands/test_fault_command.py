"""``lab fault``: usage, output, and what it asks of the device server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from mock_accel_server.faults import Fault
from support.topologies import CLUSTER

from mock_device.commands import cli
from mock_device.lab.cluster import client
from mock_device.lab.cluster.cluster import Capability, Cluster

NODE = CLUSTER.nodes[0].name
ANSWER = {
    "name": "mock0",
    "uuid": "NODE1-NUMA0-PF",
    "vf": False,
    "connected": True,
    "faults": {"slow": 50},
    "celsius": 45.0,
    "status": 0,
    "state": ["FIRMWARE"],
    "ringError": "NONE",
    "events": [],
    "firmware": 0x10000,
    "jobs": 3,
    "jobsFailed": 0,
    "bytes": 4096,
}


class Guests:
    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []

    def ask_device_server(self, _: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return ANSWER if "show" in request else {"ok": True}


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Guests:
    found = Guests()

    class Running:
        topology = CLUSTER
        look_seconds = 3.0
        capabilities = frozenset(Capability)
        guests = found
        check_offers = Cluster.check_offers

        def release(self) -> None: ...

    monkeypatch.setattr(client, "attach", lambda *_: Running())
    return found


SHOW = {"device": "mock0", "show": True}


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("slow --milliseconds 50", [{"device": "mock0", "fault": "slow", "milliseconds": 50}, SHOW]),
        ("temperature --celsius 96.5", [{"device": "mock0", "fault": "temperature", "celsius": 96.5}, SHOW]),
        ("wrong-id", [{"device": "mock0", "fault": "wrong-id", "on": True}, SHOW]),
        ("wrong-id --off", [{"device": "mock0", "fault": "wrong-id", "on": False}, SHOW]),
        ("die", [{"device": "mock0", "fault": "die"}, SHOW]),
        ("--clear", [{"device": "mock0", "fault": "clear"}, SHOW]),
        ("--show", [SHOW]),
    ],
)
def test_requests(line: str, asked: list[dict[str, Any]], guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fault", NODE, "mock0", *line.split()]) == 0
    assert guests.asked == asked
    assert capsys.readouterr().out.splitlines() == [
        "node\tdevice\tfaults\tconnected\tstatus\tstate\tring error\tevents\tcelsius\tfirmware\tjobs\tfailed\tbytes",
        f"{NODE}\tmock0\tslow 50 ms\tyes\tfree\tFIRMWARE\t-\t-\t45\t1.0\t3\t0\t4096",
    ]


def test_state_as_json(guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fault", NODE, "mock0", "--show", "--json"]) == 0
    (state,) = json.loads(capsys.readouterr().out)
    assert (state["device"], state["faults"], state["jobs_failed"]) == ("mock0", ["slow 50 ms"], 0)


def test_faults_are_listed_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fault", "--list", "--json"]) == 0
    assert {kind["fault"] for kind in json.loads(capsys.readouterr().out)} == {one.value for one in Fault} - {"clear"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "lab: expected NODE DEVICE and one of FAULT, --show and --clear; or --list; see: lab fault --help"),
        (f"{NODE} mock0", "expected NODE DEVICE and one of FAULT, --show and --clear; or --list"),
        (f"{NODE} mock0 die --show", "expected NODE DEVICE and one of FAULT, --show and --clear; or --list"),
        (f"{NODE} mock0 explode", "'explode' is not one of 'hang-next-job', 'wrong-result', 'slow', 'aer-correctable'"),
        (f"{NODE} mock0 slow", "fault slow: expected --milliseconds with a number, found none"),
        (f"{NODE} mock0 slow --milliseconds x", "expected a number from 0 to 600000, found 'x'"),
        (f"{NODE} mock0 temperature --celsius 1001", "1001.0 is not in the range -273<=x<=1000"),
        (f"{NODE} mock0 die --off", "fault die: expected no --off, found it"),
        (f"{NODE} mock0 --show --off", "--show: expected no option of a fault"),
        (f"{NODE} --list", "--list: expected no other argument but --json"),
    ],
)
def test_bad_usage(line: str, message: str, guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fault", *line.split()]) == 2
    assert message in capsys.readouterr().err
    assert guests.asked == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("node9 mock0 die", f"lab: no node 'node9' in topology numa-cluster; it has {NODE}, "),
        (f"{NODE} mock99 die", f"lab: no device 'mock99' on {NODE}; available: mock0, mock0_vf0"),
    ],
)
def test_unknown_names(line: str, message: str, guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fault", *line.split()]) == 1
    assert capsys.readouterr().err.startswith(message)
    assert guests.asked == []
