"""Debian root file systems: arguments of mmdebstrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fake_command import fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import debian


def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> list[str]:
    """Arguments of mmdebstrap for a tree."""
    command = fake_command(monkeypatch, tmp_path, "mmdebstrap")
    # Trees of ordinary users are built in a namespace; only the arguments matter here.
    monkeypatch.setattr(debian, "as_root", list)
    debian.tree(tmp_path / "tree", ["systemd", "kmod"], log=tmp_path / "log", **options)
    (found,) = command.calls
    argv: list[str] = found["argv"]
    return argv


def test_packages_are_installed_without_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    argv = call(monkeypatch, tmp_path)
    assert argv[-2:] == ["trixie", str(tmp_path / "tree")]
    assert {"--variant=apt", "--include=systemd,kmod", "--aptopt=Apt::Install-Recommends false"} <= set(argv)
    assert {"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"} <= set(argv)
    assert not [option for option in argv if "customize-hook" in option]


@pytest.mark.parametrize(("variant", "stage"), [("apt", "customize"), ("extract", "extract")])
def test_hooks_run_after_the_packages_are_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variant: str, stage: str
) -> None:
    argv = call(monkeypatch, tmp_path, variant=variant, hooks=['touch "$1/one"', 'touch "$1/two"'])
    found = [option for option in argv if option.endswith(('/one"', '/two"'))]
    assert found == [f'--{stage}-hook=touch "$1/one"', f'--{stage}-hook=touch "$1/two"']


@pytest.mark.parametrize(("user", "ordinary"), [(0, False), (1000, True)])
def test_ordinary_user_creates_no_device_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, ordinary: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    argv = call(monkeypatch, tmp_path)
    assert "--mode=root" in argv
    assert ("--skip=chroot/mount/dev" in argv) == ordinary


def test_failure_names_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_command(monkeypatch, tmp_path, "mmdebstrap", ["print('E: no such package')", "sys.exit(25)"])
    monkeypatch.setattr(debian, "as_root", list)
    with pytest.raises(StepError, match=r"mmdebstrap") as caught:
        debian.tree(tmp_path / "tree", ["nonsense"], log=tmp_path / "debian.log")
    assert caught.value.log == tmp_path / "debian.log"
    assert "E: no such package" in (tmp_path / "debian.log").read_text()
