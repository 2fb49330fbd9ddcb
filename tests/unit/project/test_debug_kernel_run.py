"""``make test-debug-kernel``: which tests run, with which kernel and time-outs."""

from __future__ import annotations

import subprocess
from typing import Any

import debug_kernel
import pytest

from mock_device.lab.base.timeouts import VARIABLE


@pytest.mark.parametrize(("given", "expected"), [("", "6"), ("2", "6"), ("10", "10")])
def test_guests_get_more_time(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv(VARIABLE, given)
    environment = debug_kernel.environment()
    assert environment[VARIABLE] == expected
    assert environment["MODULE_TEST_KERNEL"] == "debug"


@pytest.mark.parametrize("code", [0, 1])
def test_the_kernel_is_built_and_pytest_decides(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    built: list[str] = []
    ran: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert built
        ran.append(argv)
        return subprocess.CompletedProcess(argv, code)

    monkeypatch.setattr(debug_kernel, "build_debug_kernel", lambda: built.append("kernel"))
    monkeypatch.setattr(subprocess, "run", run)
    assert debug_kernel.main(["-k", "locks"]) == code
    assert ran[0][-5:] == ["-m", "slow", "kernel-driver/tests", "-k", "locks"]


def test_a_wrong_factor_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(debug_kernel, "build_debug_kernel", lambda: None)
    monkeypatch.setenv(VARIABLE, "fast")
    assert debug_kernel.main([]) == 1
    assert "expected a number from 0.5 to 20, found 'fast'" in capsys.readouterr().err
