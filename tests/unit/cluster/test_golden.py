"""What a golden cluster depends on, and what becomes of one that cannot be restored."""

from __future__ import annotations

from pathlib import Path

from mock_device import topology
from mock_device.lab.base.errors import StepError
from mock_device.lab.cluster import golden

TEXT = """\
nodes:
  - name: node1
    address: 192.168.122.211
    numa:
      - node: 0
        memory: 1G
        cpus: 1
        bus: 0x10
        slots:
          - functions:
              - {uuid: PF, memory: 16G}
"""


def shape(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return golden.shape(topology.load(path))


def test_devices_do_not_matter_since_they_are_plugged_later(tmp_path: Path) -> None:
    assert shape(tmp_path, ("uuid: PF", "uuid: OTHER"), ("16G", "8G")) == shape(tmp_path)


def test_what_the_guest_is_made_of_does(tmp_path: Path) -> None:
    changes = [("1G", "2G"), ("cpus: 1", "cpus: 2"), ("0x10", "0x20"), (".211", ".212"), ("node1", "node2")]
    slot = "          - functions:\n              - {uuid: PF, memory: 16G}\n"
    changes.append((slot, slot + slot.replace("PF", "PF2")))
    shapes = {shape(tmp_path, change) for change in changes}
    assert len(shapes) == len(changes)
    assert shape(tmp_path) not in shapes


def test_golden_that_cannot_be_restored_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "0123"
    folder.mkdir()
    (folder / "node1.ram").touch()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "qemu.log").touch()
    aside = golden.set_aside(folder, golden.identity(folder), StepError("guest does not wake up", logs))
    assert aside
    assert not folder.exists()
    assert aside.parent == tmp_path
    assert (aside / "node1.ram").exists()
    assert (aside / "reason.txt").read_text().startswith("guest does not wake up\n")
    assert (aside / "logs" / "qemu.log").exists()


def test_golden_that_another_process_has_set_aside_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "0123"
    folder.mkdir()
    which = golden.identity(folder)
    assert golden.set_aside(folder, which, StepError("guest does not wake up"))
    assert golden.identity(folder) is None
    assert golden.set_aside(folder, which, StepError("guest does not wake up")) is None
    folder.mkdir()
    assert golden.set_aside(folder, which, StepError("guest does not wake up")) is None
    assert folder.exists()
