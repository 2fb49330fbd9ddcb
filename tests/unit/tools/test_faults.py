"""``lab fault`` with the requests of a real device server, without QEMU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from mock_accel_server.control_requests import Requests
from mock_accel_server.device import Device
from mock_accel_server.faults import Fault
from mock_accel_server.registers import Identity
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster.cluster import ALWAYS, Capability, Cluster, MissingCapabilityError
from mock_device.tools import faults
from mock_device.tools.faults import DeviceState
from mock_device.topology import DeviceId

NODE = CLUSTER.nodes[0]


class Guests:
    """The device server of the first node."""

    def __init__(self) -> None:
        devices = [
            Device(Identity(one.name, one.uuid, one.memory, 1, one.is_vf, 0, one.multifunction, one.window), b"s" * 32)
            for one in NODE.functions
        ]
        self.died: list[str] = []
        self._requests = Requests(devices, self.died.append, self.died.remove)

    def ask_device_server(self, node: str, request: Mapping[str, Any]) -> dict[str, Any]:
        assert node == NODE.name
        answer: dict[str, Any] = json.loads(self._requests.answer(json.dumps(request).encode()))
        if "error" in answer:
            raise StepError(answer["error"])
        return answer


class FakeCluster(SimpleNamespace):
    name = "some"
    topology = CLUSTER
    capabilities = frozenset(Capability)
    check_offers = Cluster.check_offers


@pytest.fixture
def guests() -> Guests:
    return Guests()


@pytest.fixture
def session(guests: Guests) -> Iterator[Session]:
    cluster: Any = FakeCluster(guests=guests, release=lambda: None)
    yield Session(cluster, lambda _: pytest.fail("expected no connection to a node"))


def test_device_without_faults(session: Session) -> None:
    assert faults.show(session, NODE.name, "mock0") == DeviceState(
        node=NODE.name,
        device="mock0",
        uuid=NODE.functions[0].uuid,
        faults=(),
        connected=False,
        status="free",
        state=(),
        ring_error="",
        events=(),
        celsius=45.0,
        firmware="",
        jobs=0,
        jobs_failed=0,
        bytes=0,
    )
    assert faults.show(session, NODE.name, "mock0-vf1").id == DeviceId(NODE.name, "mock0_vf1")


@pytest.mark.parametrize(
    ("fault", "options", "shown"),
    [
        (Fault.HANG_NEXT_JOB, {}, {"faults": ("hang-next-job",)}),
        (Fault.WRONG_RESULT, {}, {"faults": ("wrong-result",)}),
        (Fault.SLOW, {"milliseconds": 50}, {"faults": ("slow 50 ms",)}),
        (Fault.SLOW, {"milliseconds": 0}, {"faults": ()}),
        (Fault.AER_CORRECTABLE, {}, {"events": ("CORRECTABLE",)}),
        (Fault.AER_FATAL, {}, {"state": ("FATAL",), "events": ("FATAL",)}),
        (Fault.ERR_INTERRUPT, {}, {}),
        (Fault.WRONG_ID, {}, {"faults": ("wrong-id",)}),
        (Fault.WRONG_ID, {"off": True}, {"faults": ()}),
        (Fault.TEMPERATURE, {"celsius": 96.5}, {"celsius": 96.5, "state": ("HOT",), "events": ("HOT",)}),
        (Fault.DIE, {}, {"faults": ("die",)}),
    ],
)
def test_each_fault_is_shown_and_cleared(
    session: Session, guests: Guests, fault: Fault, options: dict[str, Any], shown: dict[str, Any]
) -> None:
    state = faults.inject(session, NODE.name, "mock0", fault, faults.arguments_of(fault, **options))
    assert {name: getattr(state, name) for name in shown} == shown
    assert guests.died == (["mock0"] if fault is Fault.DIE else [])
    after = faults.clear(session, NODE.name, "mock0")
    assert (after.faults, after.celsius, guests.died) == ((), 45.0, [])
    assert faults.show(session, NODE.name, "mock1").faults == ()


def test_every_fault_is_listed_once_with_its_option() -> None:
    assert {kind.fault for kind in faults.KINDS} == {*Fault} - {Fault.CLEAR}
    assert len(faults.KINDS) == len({kind.fault for kind in faults.KINDS})
    lines = faults.table_of_kinds(faults.KINDS).as_text().splitlines()
    assert lines[0] == "fault\toption\twhat happens"
    assert "slow\t--milliseconds N\tevery job takes N ms longer, 0 to 600000; 0 ends it" in lines


@pytest.mark.parametrize(
    ("fault", "options", "message"),
    [
        (Fault.SLOW, {}, "fault slow: expected --milliseconds with a number, found none"),
        (Fault.TEMPERATURE, {"milliseconds": 3}, "fault temperature: expected --celsius with a number, found none"),
        (Fault.DIE, {"celsius": 0}, "fault die: expected no --celsius, found it"),
        (Fault.SLOW, {"milliseconds": 3, "off": True}, "fault slow: expected no --off, found it"),
    ],
)
def test_wrong_arguments(fault: Fault, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        faults.arguments_of(fault, **options)


def test_errors_list_the_known_nodes_and_devices(session: Session) -> None:
    with pytest.raises(KeyError, match=f"no node 'node9' in topology numa-cluster; it has {NODE.name}"):
        faults.show(session, "node9", "mock0")
    with pytest.raises(CheckError) as caught:
        faults.inject(session, NODE.name, "mock99", Fault.DIE)
    names = ", ".join(function.name for function in NODE.functions)
    assert str(caught.value) == f"no device 'mock99' on {NODE.name}; available: {names}"


def test_refusal_of_the_server_is_an_error(session: Session) -> None:
    with pytest.raises(StepError, match="expected 'milliseconds' from 0 to 600000, found 600001"):
        faults.inject(session, NODE.name, "mock0", Fault.SLOW, {"milliseconds": 600001})


def test_cluster_without_device_servers_of_the_lab(session: Session) -> None:
    session.cluster.capabilities = ALWAYS
    with pytest.raises(MissingCapabilityError, match="cluster 'some' has no device-server"):
        faults.show(session, NODE.name, "mock0")


def test_incomplete_answer_is_an_error() -> None:
    with pytest.raises(CheckError, match=r"n: expected the state of a device, found \{'ok': True\} \(KeyError"):
        faults.parse("n", {"ok": True})


def test_states_as_text(session: Session) -> None:
    state = faults.inject(session, NODE.name, "mock0", Fault.SLOW, {"milliseconds": 7})
    heading, line = faults.table([state]).as_text().splitlines()
    fields = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
    assert fields == {
        "node": NODE.name,
        "device": "mock0",
        "faults": "slow 7 ms",
        "connected": "no",
        "status": "free",
        "state": "-",
        "ring error": "-",
        "events": "-",
        "celsius": "45",
        "firmware": "-",
        "jobs": "0",
        "failed": "0",
        "bytes": "0",
    }


def test_running_device_with_firmware() -> None:
    answer = {
        "name": "mock0",
        "uuid": "U",
        "vf": False,
        "connected": True,
        "faults": {"hanging": True, "slow": 0},
        "celsius": 45.0,
        "status": 1,
        "state": ["RUNNING", "FIRMWARE", "BUSY"],
        "ringError": "BAD_TAIL",
        "events": [],
        "firmware": 0x10002,
        "jobs": 3,
        "jobsFailed": 1,
        "bytes": 4096,
    }
    state = faults.parse("n", answer)
    assert (state.faults, state.status, state.ring_error, state.firmware) == (
        ("hanging",),
        "allocated",
        "BAD_TAIL",
        "1.2",
    )


def test_other_faults_than_expected(session: Session) -> None:
    state = faults.inject(session, NODE.name, "mock0", Fault.HANG_NEXT_JOB)
    assert faults.complaints(state, ["hang-next-job"]) == []
    assert faults.complaints(state, []) == [f"{NODE.name} mock0: expected faults none, found hang-next-job"]
    assert faults.complaints(faults.clear(session, NODE.name, "mock0"), ["hanging"]) == [
        f"{NODE.name} mock0: expected faults hanging, found none"
    ]
