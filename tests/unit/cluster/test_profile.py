"""Cluster profiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.schema_check import objections

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import PROFILE_SCHEMA
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


# The JSON schema finds these faults, too.
BAD_SHAPE = [
    ("", "expected a mapping, found None"),
    ("kind: cloud", "kind: expected embedded or external, found 'cloud'"),
    ("accelerator: tcg", "expected the key kind"),
    ("{kind: embedded, accelerator: fast}", "accelerator: expected auto, kvm or tcg, found 'fast'"),
    ("{kind: embedded, gates: {}}", "unknown keys gates; expected kind, accelerator, feature-gates"),
    ("{kind: embedded, feature-gates: {A: 'yes'}}", "feature-gates.A: expected true or false, found 'yes'"),
    ("{kind: embedded, feature-gates: {'A=true,B': true}}", "feature-gates: expected text that matches"),
]
# In JSON every key is text; the others are not YAML.
BAD_FOR_THE_LOADER = [
    ("{kind: embedded, feature-gates: {A: true, 1: true}}", "expected text as key, found '1'; quote it"),
    ("kind: [", "cannot be read"),
    ("kind: 2026-13-45", "cannot be read: month must be in"),
    ("[" * 900, "cannot be read"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_SHAPE + BAD_FOR_THE_LOADER)
def test_bad_profile_is_refused_with_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StepError, match=rf"bad\.yaml: .*{reason}"):
        profile.load(str(path))


@pytest.mark.parametrize(("text", "reason"), BAD_SHAPE)
def test_schema_rejects_invalid_profiles(text: str, reason: str) -> None:
    assert objections(PROFILE_SCHEMA, text), reason


def test_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(StepError, match="no profile 'cloud'; available: embedded, external"):
        profile.load("cloud")
