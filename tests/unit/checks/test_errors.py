"""Complaints become one error; an action that must be refused is."""

from __future__ import annotations

import pytest

from mock_device.checks.errors import CheckError, fail_if_any, refusal


def test_no_complaints_no_error() -> None:
    fail_if_any([])
    fail_if_any([], "heading")


@pytest.mark.parametrize(("heading", "message"), [("", "one\ntwo"), ("expected none:", "expected none:\none\ntwo")])
def test_each_complaint_is_a_line(heading: str, message: str) -> None:
    with pytest.raises(CheckError) as caught:
        fail_if_any((text for text in ("one", "two")), heading)
    assert str(caught.value) == message


def refuse() -> None:
    raise CheckError("node1: Device or resource busy")


def test_reason_of_a_refusal_is_returned() -> None:
    assert refusal("3 VFs", refuse, "busy") == "node1: Device or resource busy"


def test_other_reason_is_an_error() -> None:
    with pytest.raises(CheckError) as caught:
        refusal("3 VFs", refuse, "Invalid argument")
    assert str(caught.value) == (
        "3 VFs: expected it to be refused because 'Invalid argument', found: node1: Device or resource busy"
    )


@pytest.mark.parametrize(("outcome", "end"), [(None, ""), ("", ""), ("done", ": done")])
def test_success_is_an_error(outcome: str | None, end: str) -> None:
    with pytest.raises(CheckError) as caught:
        refusal("3 VFs", lambda: outcome, "busy")
    assert str(caught.value) == f"3 VFs: expected it to be refused because 'busy', it was accepted{end}"
