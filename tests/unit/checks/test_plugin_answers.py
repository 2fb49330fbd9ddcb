"""Answers of a kubelet plugin that keep the contract, and each way to break it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_device.checks.driver import plugin_answers
from mock_device.checks.driver.plugin_answers import Answer, ClaimOnNode, Info, Prepared, PreparedDevice
from mock_device.checks.objects.claim_forms import Result
from mock_device.checks.objects.slices import PublishedId

DRIVER = "any.example.com"
INFO = Info("DRAPlugin", DRIVER, "/var/lib/kubelet/plugins/any/dra.sock", ("v1.DRAPlugin", "v1beta1.DRAPlugin"), 0.1)
CLAIM = ClaimOnNode(
    "node1", "default", "pair", "uid-1", (Result("left", DRIVER, "node1", "a"), Result("right", DRIVER, "node1", "b"))
)
LEFT = PreparedDevice("node1", "a", ("left",), ("any/x=1-a",))
RIGHT = PreparedDevice("node1", "b", ("right",), ("any/x=1-b",))
GOOD = Prepared((CLAIM,), {"uid-1": Answer((LEFT, RIGHT))}, 0.2)


def answered(*devices: PreparedDevice, error: str = "") -> Prepared:
    return replace(GOOD, answers={"uid-1": Answer(devices, error)})


def test_good_answers_have_no_complaints() -> None:
    assert plugin_answers.info_complaints(INFO, DRIVER) == []
    assert plugin_answers.entry_complaints(GOOD) == []
    assert plugin_answers.device_complaints(GOOD) == []
    assert plugin_answers.differences(GOOD, replace(GOOD, answers={"uid-1": Answer((RIGHT, LEFT))}, seconds=9.0)) == []
    assert plugin_answers.cdi_complaints(GOOD, {"any/x=1-a", "any/x=1-b", "other/y=z"}) == []
    assert plugin_answers.unprepare_complaints(CLAIM, {"uid-1": ""}) == []


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        (replace(INFO, kind="CSIPlugin"), "expected type DRAPlugin, found 'CSIPlugin'"),
        (replace(INFO, name="other"), "expected name any.example.com, found 'other'"),
        (replace(INFO, endpoint="dra.sock"), "expected an absolute path as endpoint, found 'dra.sock'"),
        (replace(INFO, services=()), "expected v1.DRAPlugin among the services, found none"),
        (
            replace(INFO, services=("v1beta1.DRAPlugin",)),
            "expected v1.DRAPlugin among the services, found v1beta1.DRAPlugin",
        ),
    ],
)
def test_wrong_introduction_is_reported(info: Info, complaint: str) -> None:
    assert plugin_answers.info_complaints(info, DRIVER) == [complaint]


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ({}, "claim pair: expected an entry in the answer, found none"),
        ({"uid-1": Answer(error="busy")}, "claim pair: expected no error, found busy"),
        ({"uid-1": Answer(), "uid-2": Answer()}, "claim with uid uid-2: expected no entry, nobody has asked for it"),
    ],
)
def test_wrong_entries_are_reported(answers: dict[str, Answer], complaint: str) -> None:
    assert plugin_answers.entry_complaints(replace(GOOD, answers=answers)) == [complaint]


@pytest.mark.parametrize(
    ("prepared", "complaints"),
    [
        (answered(LEFT), ["claim pair: expected device b of pool node1 for request right, found it not"]),
        (
            answered(LEFT, RIGHT, PreparedDevice("node1", "c", ("left",), ())),
            ["claim pair: expected only what is allocated, found device c of pool node1 for request left"],
        ),
        (
            answered(LEFT, replace(RIGHT, requests=("right/second",))),
            [
                "claim pair: expected device b of pool node1 for request right, found it not",
                "claim pair: expected only what is allocated, found device b of pool node1 for request right/second",
            ],
        ),
        (
            answered(LEFT, RIGHT, PreparedDevice("node1", "c", (), ())),
            ["claim pair: expected only what is allocated, found device c of pool node1 for request (all)"],
        ),
    ],
)
def test_devices_that_are_not_those_allocated_are_reported(prepared: Prepared, complaints: list[str]) -> None:
    assert plugin_answers.device_complaints(prepared) == complaints


def test_device_without_requests_belongs_to_all_that_have_it() -> None:
    assert plugin_answers.device_complaints(answered(replace(LEFT, requests=()), RIGHT)) == []


@pytest.mark.parametrize(
    ("again", "found"),
    [
        (
            answered(LEFT, replace(RIGHT, cdi=("any/x=2-b",))),
            "a of node1 for left by any/x=1-a', 'b of node1 for right",
        ),
        (answered(LEFT, RIGHT, error="twice"), "error twice"),
        (replace(GOOD, answers={}), "no entry"),
    ],
)
def test_other_answer_to_a_second_call_is_reported(again: Prepared, found: str) -> None:
    (complaint,) = plugin_answers.differences(GOOD, again)
    assert complaint.startswith("claim pair: expected ['a of node1 for left by any/x=1-a'")
    assert found in complaint.partition("found")[2]


def test_undefined_cdi_device_is_reported() -> None:
    assert plugin_answers.cdi_complaints(GOOD, {"any/x=1-a"}) == [
        "CDI device any/x=1-b: expected a CDI file that defines it, found any/x=1-a"
    ]


def test_wrong_answers_to_unprepare_are_reported() -> None:
    assert plugin_answers.unprepare_complaints(CLAIM, {}) == [
        "unprepare claim pair: expected an entry in the answer, found none"
    ]
    assert plugin_answers.unprepare_complaints(CLAIM, {"uid-1": "never heard of it"}) == [
        "unprepare claim pair: expected no error, found never heard of it"
    ]


def test_missing_device_in_the_report_of_health_is_reported() -> None:
    published = [PublishedId("node1", "a"), PublishedId("node1", "b")]
    assert plugin_answers.health_complaints({published[0]: "Healthy"}, published) == [
        "node1 b: expected it in the report of health"
    ]


def test_cdi_devices_are_divided_by_the_requests_of_a_container() -> None:
    assert plugin_answers.cdi_by_use(GOOD, {("pair", "left")}) == (["any/x=1-a"], ["any/x=1-b"])
    assert plugin_answers.cdi_by_use(GOOD, {("pair", None)})[0] == ["any/x=1-a", "any/x=1-b"]
    assert plugin_answers.cdi_by_use(GOOD, {("other", None)})[0] == []
    without_names = answered(replace(LEFT, requests=()), RIGHT)
    assert plugin_answers.cdi_by_use(without_names, {("pair", "right")}) == (["any/x=1-a", "any/x=1-b"], [])
