"""Cluster profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import profile
from mock_device.lab.guest.accelerator import accelerator


def test_default_profile_is_valid() -> None:
    found = profile.load("embedded")
    assert found.kind == "embedded"
    assert found.accelerator == accelerator()
    assert found.feature_gates["DRAPartitionableDevices"] is True


def test_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, accelerator: tcg, feature-gates: {B: false, A: true}}")
    found = profile.load(str(path))
    assert (found.accelerator, profile.flag(found.feature_gates)) == ("tcg", "A=true,B=false")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a mapping"),
        ("kind: k3s", "expected kind embedded, found 'k3s'"),
        ("{kind: embedded, accelerator: fast}", "expected accelerator auto, kvm, tcg, found 'fast'"),
        ("{kind: embedded, gates: {}}", "unknown keys gates"),
        ("{kind: embedded, feature-gates: {A: 'yes'}}", "expected true or false by name"),
        ("{kind: embedded, feature-gates: {A: true, 1: true}}", "expected true or false by name"),
        ("{kind: embedded, feature-gates: {'A=true,B': true}}", "expected true or false by name"),
        ("kind: [", "cannot be read"),
        ("kind: 2026-13-45", "cannot be read: month must be in"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_invalid_profile_is_rejected_with_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StepError, match=rf"bad\.yaml: .*{reason}"):
        profile.load(str(path))


def test_error_of_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(StepError, match="no profile 'cloud'; there are embedded"):
        profile.load("cloud")
