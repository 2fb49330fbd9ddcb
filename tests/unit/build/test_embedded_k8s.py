"""Checks of our own Go code."""

from __future__ import annotations

import pytest

from mock_device.lab.base.commands import run
from mock_device.lab.base.paths import PROJECT

SOURCE = PROJECT / "embedded-k8s"
# As in lab.build.gobuild: what it compiled is used again.
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
PACKAGES = "./standin"
SECONDS = 280.0


def test_go_code_is_formatted() -> None:
    assert run(["gofmt", "-l", "."], cwd=SOURCE, timeout=60).decode() == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", [["vet"], ["test"]], ids=["vet", "test"])
def test_stand_in_for_k3s(command: list[str]) -> None:
    run(["go", *command, PACKAGES], cwd=SOURCE, env=ENVIRONMENT, timeout=SECONDS)
