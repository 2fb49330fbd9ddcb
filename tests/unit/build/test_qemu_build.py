"""Which QEMU is used: the host's if it can serve vfio-user devices, else Debian's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_command import FakeCommand, fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import debian, qemu_build
from mock_device.lab.build.qemu_build import ensure_qemu, parse_version

# Answers like QEMU, also when run as the loader of a tree, whose arguments start with the libraries and the program.
QEMU = """
if "--version" in sys.argv:
    print("QEMU emulator version {version} (Debian 1:{version}+ds-1)")
if "help" in sys.argv:
    print('name "virtio-net-pci", bus PCI')
    print('name "{device}", bus PCI')
"""
# A fake mmdebstrap; its last argument is the tree.
TREE = """
loader = os.path.join(sys.argv[-1], "usr/lib64/ld-linux-x86-64.so.2")
os.makedirs(os.path.dirname(loader))
with open(loader, "w") as file:
    file.write("#!" + sys.executable + "\\nimport sys\\n" + {qemu!r})
os.chmod(loader, 0o755)
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Creates a fake host with this version and device of QEMU, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "as_root", list)

    def make(version: str, device: str = "vfio-user-pci") -> None:
        fake_command(monkeypatch, tmp_path, "qemu-system-x86_64", [QEMU.format(version=version, device=device)])
        fake_command(monkeypatch, tmp_path, "qemu-img")

    return make


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeCommand]:
    """Creates a fake Debian mirror with this version of QEMU."""

    def make(version: str, device: str = "vfio-user-pci") -> FakeCommand:
        tree = TREE.format(qemu=QEMU.format(version=version, device=device))
        return fake_command(monkeypatch, tmp_path, "mmdebstrap", [tree])

    return make


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 11.1.0 (Debian 1:11.1.0+ds-1~bpo13+1)\nCopyright (c) 2003", (11, 1)),
        ("QEMU emulator version 7.2.19", (7, 2)),
        ("command not found", (0, 0)),
    ],
)
def test_version_of_qemu_is_parsed(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("version", ["10.1.0", "11.0.2"])
def test_qemu_of_the_host_is_used_if_it_is_new_enough(
    host: Callable[[str], None], mirror: Callable[..., FakeCommand], tmp_path: Path, version: str
) -> None:
    host(version)
    debian_mirror = mirror("11.1.0")
    qemu = ensure_qemu.__wrapped__()
    assert qemu.system_argv == [str(tmp_path / "bin/qemu-system-x86_64")]
    assert (qemu.version, qemu.env) == (version.rpartition(".")[0], {})
    assert debian_mirror.calls == []


@pytest.mark.parametrize(
    ("version", "device"), [("7.2.0", "vfio-user-pci"), ("10.0.9", "vfio-user-pci"), ("11.1.0", "vfio-pci")]
)
def test_debian_backport_is_installed_once_if_the_host_has_no_suitable_qemu(
    host: Callable[[str, str], None], mirror: Callable[..., FakeCommand], version: str, device: str
) -> None:
    host(version, device)
    debian_mirror = mirror("11.1.0")
    qemu = ensure_qemu.__wrapped__()
    assert qemu == ensure_qemu.__wrapped__()
    (call,) = debian_mirror.calls
    assert "-t trixie-backports" in " ".join(call["argv"])
    root = qemu.system_argv[0].removesuffix("/usr/lib64/ld-linux-x86-64.so.2")
    assert f"{root}/usr/bin/qemu-system-x86_64" in qemu.system_argv
    assert qemu.img_argv[-1] == f"{root}/usr/bin/qemu-img"
    assert (qemu.version, qemu.env) == ("11.1", {"QEMU_MODULE_DIR": f"{root}/usr/lib/x86_64-linux-gnu/qemu"})


def test_unsuitable_backport_is_an_error(host: Callable[..., None], mirror: Callable[..., FakeCommand]) -> None:
    host("7.2.0")
    mirror("11.1.0", "vfio-pci")
    message = "QEMU 11.1 of trixie-backports cannot be used: it has no device vfio-user-pci"
    with pytest.raises(StepError, match=message) as caught:
        qemu_build.ensure_qemu.__wrapped__()
    assert caught.value.log is not None
