"""The configuration of the debug kernel, and what is kept of its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import debug_kernel

WANTED = '# a comment\nCONFIG_KASAN=y\nCONFIG_LOCALVERSION="-mock-debug"\n# CONFIG_SOUND is not set\n'


def test_options_are_those_that_are_set() -> None:
    assert debug_kernel.options(WANTED) == {"CONFIG_KASAN": "y", "CONFIG_LOCALVERSION": '"-mock-debug"'}


def test_lost_options_are_named() -> None:
    assert debug_kernel.lost_options(WANTED, WANTED) == []
    found = '# CONFIG_KASAN is not set\nCONFIG_LOCALVERSION=""\n'
    assert debug_kernel.lost_options(WANTED, found) == ["CONFIG_KASAN=y", 'CONFIG_LOCALVERSION="-mock-debug"']


def test_configuration_has_what_finds_bugs_and_no_option_twice() -> None:
    text = debug_kernel.OPTIONS.read_text()
    names = [line.partition("=")[0] for line in text.splitlines() if line.startswith("CONFIG_")]
    assert sorted(set(names)) == sorted(names)
    needed = {"KASAN", "PROVE_LOCKING", "DEBUG_ATOMIC_SLEEP", "FAILSLAB", "FAIL_PAGE_ALLOC", "FAULT_INJECTION_DEBUG_FS"}
    assert {f"CONFIG_{name}" for name in needed} <= set(names)


def test_an_option_that_the_kernel_does_not_take_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "usr/src/linux"
    source.mkdir(parents=True)

    def configure(root: Path, log: Path, *arguments: str) -> str:
        assert arguments == ("KCONFIG_ALLCONFIG=debug-kernel.config", "allnoconfig")
        text = (source / "debug-kernel.config").read_text()
        (source / ".config").write_text(text.replace("CONFIG_KASAN=y\n", ""))
        return ""

    monkeypatch.setattr(debug_kernel, "_make", configure)
    with pytest.raises(StepError, match="it has not CONFIG_KASAN=y; look up"):
        debug_kernel._configure(tmp_path, tmp_path / "log")


def test_only_what_modules_are_compiled_with_is_kept(tmp_path: Path) -> None:
    for name in ("Makefile", ".config", "include/linux/pci.h", "scripts/a.o", "scripts/modpost", "drivers/pci/pci.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "vmlinux").write_text("")
    (tmp_path / "source").symlink_to("drivers")
    debug_kernel._reduce(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".config", "Makefile", "include/linux/pci.h", "scripts/modpost"]
