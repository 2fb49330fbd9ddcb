"""The node image of k3s's layout, and the user's binary."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path

import pytest

from mock_device.lab.base.commands import run
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import k3s_image
from mock_device.lab.build.k3s_image import complaints, debugfs_script, find_binary

NODE = {
    "etc/containerd/config.toml": "",
    "etc/kubernetes/kubelet.yaml": "",
    "etc/kubernetes/kube-proxy.yaml": "",
    "usr/local/bin/kubelet": "",
    "usr/local/bin/kube-proxy": "",
    "usr/local/bin/containerd": "",
    "usr/local/bin/containerd-shim-runc-v2": "",
    "usr/local/bin/ctr": "",
    "usr/local/bin/embedded-k8s": "",
    "opt/file": "",
    "var/lib/file": "",
} | {
    f"etc/systemd/system/{folder}{unit}.service": ""
    for unit in ("containerd", "kubelet", "kube-proxy", "kubens")
    for folder in ("", "multi-user.target.wants/")
}


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    # A name with a space, as a user's folder may have.
    path = tmp_path / "my k3s"
    path.write_bytes(b"\x7fELF" + b"program")
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A small file system with the files of a node that the script touches."""
    for name, content in NODE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    disk = tmp_path / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "tree", disk, "8M"], timeout=30)
    return disk


def change(disk: Path, script: str) -> list[str]:
    log, file = disk.with_name("log"), disk.with_name("script")
    file.write_text(script)
    run(["debugfs", "-w", "-f", file, disk], log=log, timeout=30)
    return complaints(log.read_text())


def shown(disk: Path, command: str) -> str:
    return run(["debugfs", "-R", command, disk], timeout=30).decode()


def test_users_binary_replaces_the_programs_of_the_other_layout(disk: Path, binary: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_text("archive")
    assert change(disk, debugfs_script(binary, [archive, archive])) == []
    assert shown(disk, "cat /usr/local/bin/k3s") == "\x7fELFprogram"
    assert "Mode:  0755" in shown(disk, "stat /usr/local/bin/k3s")
    programs = shown(disk, "ls -p /usr/local/bin")
    assert [line.split("/")[5] for line in programs.split() if line] == [".", "..", "k3s"]
    assert shown(disk, "cat /var/lib/rancher/k3s/agent/images/2-image.tar") == "archive"
    assert "/usr/local/bin/k3s server" in shown(disk, "cat /etc/systemd/system/k3s.service")
    wanted = shown(disk, "ls -p /etc/systemd/system/multi-user.target.wants")
    assert "/k3s.service/" in wanted and "/k3s-agent.service/" in wanted
    assert "/kubelet.service/" not in wanted + shown(disk, "ls -p /etc/systemd/system")
    run(["e2fsck", "-fn", disk], timeout=30)


def test_stand_in_uses_the_programs_and_images_of_the_node_image(disk: Path) -> None:
    assert change(disk, debugfs_script(None, [])) == []
    assert 'Fast link dest: "embedded-k8s"' in shown(disk, "stat /usr/local/bin/k3s")
    assert '"/var/lib/containerd"' in shown(disk, "stat /var/lib/rancher/k3s/agent/containerd")
    assert '"/usr/lib/cni"' in shown(disk, "stat /opt/cni/bin")
    run(["e2fsck", "-fn", disk], timeout=30)


def test_what_debugfs_could_not_do_is_found(disk: Path) -> None:
    wrong = change(disk, "rm /missing\nwrite /no/such/file /there\n")
    assert "rm: File not found by ext2_lookup while trying to resolve filename" in wrong
    assert any("No such file or directory" in line for line in wrong)


def test_binary_comes_from_profile_or_environment(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_binary(str(binary), "", "") == binary
    monkeypatch.setenv("K3S_BINARY", str(binary))
    assert find_binary("", "v1", "") == binary


def test_missing_binary_names_all_ways_to_give_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("K3S_BINARY", raising=False)
    with pytest.raises(StepError, match="set K3S_BINARY=/path/to/k3s, or `binary`, or `version` and `sha256`"):
        find_binary("", "", "")
    monkeypatch.setenv("K3S_BINARY", str(tmp_path / "gone"))
    with pytest.raises(StepError, match="K3S_BINARY: expected the program k3s, found no file /"):
        find_binary("", "", "")
    with pytest.raises(StepError, match="^binary: expected the program k3s, found no file /"):
        find_binary(str(tmp_path), "", "")


def test_binary_must_be_a_program_with_the_given_checksum(binary: Path, tmp_path: Path) -> None:
    script = tmp_path / "k3s.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(StepError, match=r"expected a program \(ELF\), found a file that begins with b'#!/b'"):
        find_binary(str(script), "", "")
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    assert find_binary(str(binary), "", digest) == binary
    with pytest.raises(StepError, match=f"expected sha256 {'0' * 64}, found {digest}"):
        find_binary(str(binary), "", "0" * 64)


@pytest.fixture
def release(binary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Downloads get the binary; the URLs that were asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("K3S_BINARY", raising=False)
    (tmp_path / "cache/mock-device/logs").mkdir(parents=True)
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> object:
        asked.append(url)
        return binary.open("rb")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_version_is_downloaded_once(binary: Path, release: list[str]) -> None:
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    found = find_binary("", "v1.37.2+k3s1", digest)
    assert found.read_bytes() == binary.read_bytes()
    assert find_binary("", "v1.37.2+k3s1", digest) == found
    (url,) = release
    assert url.endswith("/releases/download/v1.37.2%2Bk3s1/k3s")


def test_download_with_another_checksum_is_not_kept(release: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(StepError, match=f"expected sha256 {'0' * 64}, found"):
            find_binary("", "v1.37.2+k3s1", "0" * 64)
    assert len(release) == 2


def test_download_that_fails_says_what_to_do(release: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> object:
        raise OSError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(StepError, match="no route; download it yourself and set K3S_BINARY"):
        find_binary("", "v1", "0" * 64)


def test_units_start_k3s_as_its_installer_does() -> None:
    for unit, role in (("k3s", "server"), ("k3s-agent", "agent")):
        text = (k3s_image.DATA / f"{unit}.service").read_text()
        assert f"ExecStart=/usr/local/bin/k3s {role}\n" in text
        assert f"EnvironmentFile=-/etc/systemd/system/{unit}.service.env\n" in text
        condition = (k3s_image.DATA / f"{unit}.conf").read_text()
        assert f"ConditionPathExists=/etc/systemd/system/{unit}.service.env\n" in condition
