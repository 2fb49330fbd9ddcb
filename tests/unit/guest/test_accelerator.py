"""Accelerator, and the CPU properties that saved guests depend on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mock_device.lab.guest import accelerator
from mock_device.lab.guest.accelerator import cpu_model, emulated_vcpus, host_cpu

CPU = {"model name": "Some CPU", "flags": "fpu svm", "bogomips": "4890.84"}


def test_saved_guest_depends_on_model_and_features_with_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_first_cpu", lambda: CPU)
    assert host_cpu("kvm") == "Some CPU fpu svm"


def test_saved_guest_that_runs_guests_depends_on_the_setting_of_kvm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accelerator, "_first_cpu", lambda: CPU)
    setting = tmp_path / "nested"
    monkeypatch.setattr(accelerator, "_NESTED", (str(setting), str(tmp_path / "missing")))
    keys = [host_cpu("kvm", nested=True)]
    for value in ("0\n", "1\n"):
        setting.write_text(value)
        keys.append(host_cpu("kvm", nested=True))
        assert host_cpu("kvm") == "Some CPU fpu svm"
    assert keys == [f"Some CPU fpu svm nested={value}" for value in ("", "0", "1")]


def test_saved_guest_depends_on_the_rate_of_the_tsc_without_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_first_cpu", lambda: CPU)
    assert host_cpu("tcg") == "2445 MHz"
    # The kernel measures it at each boot, with slightly different results.
    monkeypatch.setattr(accelerator, "_first_cpu", lambda: CPU | {"bogomips": "4890.62"})
    assert host_cpu("tcg") == "2445 MHz"


def test_this_machine() -> None:
    assert int(host_cpu("tcg").removesuffix(" MHz")) > 100


@pytest.mark.parametrize(("guests", "threads"), [(1, "multi"), (2, "single"), (3, "single")])
def test_guests_that_share_cores_have_one_thread_each(
    monkeypatch: pytest.MonkeyPatch, guests: int, threads: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert emulated_vcpus(guests) == threads


@pytest.mark.parametrize(
    ("accelerator", "nested", "model"),
    [
        ("tcg", False, "max"),
        ("tcg", True, "max"),
        ("kvm", False, "host,svm=off,vmx=off"),
        ("kvm", True, "host"),
    ],
)
def test_cpu_of_a_guest_runs_guests_only_on_request_with_kvm(accelerator: str, nested: bool, model: str) -> None:
    assert cpu_model(accelerator, nested=nested) == model
