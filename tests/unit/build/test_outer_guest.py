"""What the outer guest of ``make test-kvm`` is built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import outer_guest


def test_only_what_the_lab_runs_with_is_installed() -> None:
    found = outer_guest.requirements()
    assert "robotframework==" in found
    assert "pytest" not in found


def test_requirements_without_the_comment_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("click==8\n")
    monkeypatch.setattr(outer_guest, "_REQUIREMENTS", file)
    with pytest.raises(StepError, match="expected a line '# checks' after what the lab runs with, found none"):
        outer_guest.requirements()


def test_files_of_the_outer_guest_are_where_its_first_process_expects_them() -> None:
    init = outer_guest.INIT.read_text()
    assert f"mount /dev/vdb {outer_guest.MATERIAL}" in init
    assert f":{outer_guest.SITE}" in init
