"""The driver in Go beside a real API server and scheduler, with its own rights, called as the kubelet does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.inside import report_of

from mock_device.lab.build.gobuild import build_embedded_k8s, build_go_driver

TIMEOUT_SECONDS = 600

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_SECONDS + 60)]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """Report of ``go_driver_inside.py``."""
    # Not tmp_path: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="go") as folder:
        arguments = (build_embedded_k8s(), build_go_driver(), Path(folder))
        yield report_of("go_driver_inside.py", *arguments, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize("what", ["info", "attributes", "entries", "devices", "again", "cdi", "health", "free again"])
def test_driver_keeps_the_contract(found: dict[str, Any], what: str) -> None:
    assert found[what] == []


def test_all_devices_are_published_with_their_addresses(found: dict[str, Any]) -> None:
    assert (found["published"], found["addressed"]) == (0, 0)


def test_each_device_has_its_variable(found: dict[str, Any]) -> None:
    assert found["environment"] == ["GO_ACCEL_"] * 2


def test_wrong_claims_are_refused(found: dict[str, Any]) -> None:
    assert "got replaced" in found["other uid"]
    assert "not allocated" in found["unallocated"]
    assert "is still in use by the claim" in found["in use"]


def test_unprepare_can_be_repeated_and_leaves_nothing(found: dict[str, Any]) -> None:
    assert [[*answer.values()] for answer in found["unprepare"]] == [[""], [""]]
    assert found["files left"] == []


def test_slices_of_others_are_corrected(found: dict[str, Any]) -> None:
    assert (found["deleted slices"], found["changed slices"]) == ("", "")


def test_driver_ends_and_leaves_no_socket(found: dict[str, Any]) -> None:
    assert (found["exit code"], found["sockets left"]) == (0, [])
