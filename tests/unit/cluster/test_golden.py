"""Inputs of a golden cluster's key, and the quarantine of one that cannot be restored."""

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


def test_shape_ignores_devices_which_are_plugged_later(tmp_path: Path) -> None:
    assert shape(tmp_path, ("uuid: PF", "uuid: OTHER"), ("16G", "8G")) == shape(tmp_path)


def test_shape_depends_on_the_guests(tmp_path: Path) -> None:
    changes = [("1G", "2G"), ("cpus: 1", "cpus: 2"), ("0x10", "0x20"), (".211", ".212"), ("node1", "node2")]
    slot = "          - functions:\n              - {uuid: PF, memory: 16G}\n"
    changes.append((slot, slot + slot.replace("PF", "PF2")))
    shapes = {shape(tmp_path, change) for change in changes}
    assert len(shapes) == len(changes)
    assert shape(tmp_path) not in shapes


def test_quarantine_keeps_reason_and_logs(tmp_path: Path) -> None:
    folder = tmp_path / "0123"
    folder.mkdir()
    (folder / "node1.ram").touch()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "qemu.log").touch()
    target = golden.quarantine(folder, golden.identity(folder), StepError("guest does not wake up", logs))
    assert target
    assert not folder.exists()
    assert target.parent == tmp_path
    assert (target / "node1.ram").exists()
    assert (target / "reason.txt").read_text().startswith("guest does not wake up\n")
    assert (target / "logs" / "qemu.log").exists()


def test_golden_cluster_rebuilt_by_another_process_is_not_quarantined(tmp_path: Path) -> None:
    folder = tmp_path / "0123"
    folder.mkdir()
    which = golden.identity(folder)
    assert golden.quarantine(folder, which, StepError("guest does not wake up"))
    assert golden.identity(folder) is None
    assert golden.quarantine(folder, which, StepError("guest does not wake up")) is None
    folder.mkdir()
    assert golden.quarantine(folder, which, StepError("guest does not wake up")) is None
    assert folder.exists()
