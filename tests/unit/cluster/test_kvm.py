"""KVM that does not work: emulation where the accelerator was found, an error where it was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mock_device.lab.base.errors import StepError
from mock_device.lab.build.node_image import NodeImage
from mock_device.lab.build.qemu_build import Qemu
from mock_device.lab.cluster import kvm, profile
from mock_device.lab.cluster.profile import Profile
from mock_device.lab.guest import kernel_probe


@pytest.fixture
def auto() -> Profile:
    return replace(profile.load("embedded"), accelerator="kvm", accelerator_found=True)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_complaint", lambda _: "KVM internal error. Suberror: 1")


@pytest.mark.usefixtures("broken")
def test_found_accelerator_falls_back_with_a_warning(auto: Profile) -> None:
    warnings: list[str] = []
    assert kvm.with_working_accelerator(auto, warnings.append) == replace(auto, accelerator="tcg")
    (warning,) = warnings
    assert "KVM cannot run the nodes' kernel on this machine (KVM internal error. Suberror: 1)" in warning


@pytest.mark.usefixtures("broken")
def test_accelerator_that_was_asked_for_must_work(auto: Profile) -> None:
    with pytest.raises(StepError, match=r"embedded.yaml: accelerator: kvm: .* use accelerator: auto or tcg"):
        kvm.with_working_accelerator(replace(auto, accelerator_found=False))


def test_working_accelerator_stays(auto: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_complaint", lambda _: "")
    assert kvm.with_working_accelerator(auto) == auto


def test_emulation_is_not_tried(auto: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "_complaint", lambda _: pytest.fail("tried"))
    emulated = replace(auto, accelerator="tcg")
    assert kvm.with_working_accelerator(emulated) == emulated


def test_kernel_is_tried_once_after_a_boot(auto: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one")
    monkeypatch.setattr(kvm, "_BOOT_ID", boot_id)
    qemu = Qemu(["qemu"], ["qemu-img"], "11.1")
    image = NodeImage(Path("/disk"), "raw", Path("/vmlinuz"), Path("/initrd"), "6.12")
    monkeypatch.setattr("mock_device.lab.cluster.kvm.ensure_qemu", lambda: qemu)
    monkeypatch.setattr(Profile, "node_image", lambda _: image)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tried: list[str] = []

    def complaint(*_: object) -> str:
        tried.append(boot_id.read_text())
        return "it hangs"

    monkeypatch.setattr(kernel_probe, "complaint", complaint)
    for boot in ("one", "one", "two"):
        boot_id.write_text(boot)
        assert kvm.with_working_accelerator(auto).accelerator == "tcg"
    assert tried == ["one", "two"]
