"""CDI files: valid, complete, and never half written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dra_fakes.sysfs import SysfsTree
from mock_accel_dra import cdi, files
from mock_accel_dra.discovery import Device, read_device
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[2] / "libraries/mock_device/checks/nodes/data/cdi-schema"


@pytest.fixture
def vf(sysfs: SysfsTree) -> Device:
    sysfs.add("mock0", "0000:11:00.0", total_vfs=2)
    sysfs.add("mock0_vf0", "0000:11:00.1", uuid="NODE1-NUMA0-VF0", physfn="0000:11:00.0")
    return read_device(sysfs.root, "mock0_vf0")


def check(spec: Any) -> None:
    contents = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry: Registry[Any] = Registry()
    for name, content in contents.items():
        content.setdefault("$schema", "http://json-schema.org/draft-07/schema#")
        registry = registry.with_resource(name, Resource.from_contents(content))
    jsonschema.Draft7Validator(contents["schema.json"], registry=registry).validate(spec)


def test_spec_is_valid(vf: Device) -> None:
    check(cdi.spec(Path("/var/run/cdi"), vf))
    with pytest.raises(jsonschema.ValidationError):
        check({**cdi.spec(Path("/var/run/cdi"), vf), "devices": [{"name": 1}]})


def test_content(vf: Device, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    assert cdi.write(folder, vf)
    path = folder / "example.com_mock-accel-mock0_vf0.json"
    spec = json.loads(path.read_text())
    assert spec["cdiVersion"] == "0.8.0"
    assert spec["kind"] == "example.com/mock-accel"
    (device,) = spec["devices"]
    assert device["name"] == "mock0_vf0"
    assert set(device["containerEdits"]["env"]) == {
        "MOCK_ACCEL_DEVICE=mock0_vf0",
        "MOCK_ACCEL_UUID=NODE1-NUMA0-VF0",
        "MOCK_ACCEL_PCI=0000:11:00.1",
        "MOCK_ACCEL_DEVICE_MOCK0_VF0=mock0_vf0",
        "MOCK_ACCEL_UUID_MOCK0_VF0=NODE1-NUMA0-VF0",
        "MOCK_ACCEL_PCI_MOCK0_VF0=0000:11:00.1",
    }
    cover, links = device["containerEdits"]["mounts"]
    assert (cover["type"], cover["containerPath"]) == ("tmpfs", "/sys/class/mock-accel")
    assert (links["type"], links["containerPath"]) == ("bind", "/sys/class/mock-accel/mock0_vf0")
    # Not in sysfs, which does not support ID-mapped mounts (pods with hostUsers: false).
    source = Path(links["hostPath"])
    assert source.parent == folder
    assert source.suffix not in (".json", ".yaml")
    pci = "../../../devices/pci0000:10/0000:10:00.0/0000:11:00.1"
    attributes = ("uuid", "memory_size", "numa_node", "capabilities", "status", "power")
    assert {path.name: str(path.readlink()) for path in source.iterdir()} == {
        "device": pci,
        "subsystem": "../../../class/mock-accel",
        **{name: f"{pci}/mock-accel/mock0_vf0/{name}" for name in attributes},
    }
    assert path.stat().st_mode & 0o777 == 0o644


def test_device_node(sysfs: SysfsTree, tmp_path: Path) -> None:
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    sysfs.add("mock1", "0000:12:00.0", window=1 << 20)
    device = read_device(sysfs.root, "mock1")
    spec = cdi.spec(tmp_path, device)
    check(spec)
    node = {"path": "/dev/mock-accel/mock1", "type": "c", "major": 240, "minor": 1}
    edits = spec["devices"][0]["containerEdits"]
    assert edits["deviceNodes"] == [{**node, "fileMode": 0o666, "permissions": "rw"}]


def test_a_module_without_device_nodes(vf: Device) -> None:
    (device,) = cdi.spec(Path("/var/run/cdi"), vf)["devices"]
    assert "deviceNodes" not in device["containerEdits"]


def test_another_number_after_the_module_was_loaded_again(sysfs: SysfsTree, tmp_path: Path) -> None:
    sysfs.add("mock0", "0000:11:00.0", window=1 << 20)
    assert cdi.write(tmp_path, read_device(sysfs.root, "mock0"))
    sysfs.write("mock0", "dev", "241:7")
    assert cdi.write(tmp_path, read_device(sysfs.root, "mock0"))
    (device,) = json.loads(cdi.file_of(tmp_path, "mock0").read_text())["devices"]
    assert [(node["major"], node["minor"]) for node in device["containerEdits"]["deviceNodes"]] == [(241, 7)]


def test_every_runtime_has_the_mounts_and_mounts_them_read_only(vf: Device) -> None:
    """runc ignores options that it does not know until 1.1, and refuses the container since 1.2."""
    (device,) = cdi.spec(Path("/var/run/cdi"), vf)["devices"]
    cover, links = (mount["options"] for mount in device["containerEdits"]["mounts"])
    assert set(cover) == {"ro", "nosuid", "nodev", "noexec", "mode=0755", "size=64k"}
    assert set(links) == {"bind", "ro", "nosuid", "nodev", "noexec"}


def test_links_resolve_in_a_container(vf: Device, sysfs: SysfsTree, tmp_path: Path) -> None:
    """The container's sysfs is the same tree; only the class is covered."""
    cdi.write(tmp_path / "cdi", vf)
    (sysfs.classes / "mock0").unlink()
    (sysfs.classes / "mock0_vf0").unlink()
    seen = cdi.links_of(tmp_path / "cdi", vf.name).rename(sysfs.classes / "mock0_vf0")
    pci = sysfs.root / "devices/pci0000:10/0000:10:00.0"
    assert (seen / "uuid").read_text() == "NODE1-NUMA0-VF0\n"
    assert (seen / "device").resolve(strict=True) == pci / "0000:11:00.1"
    assert (seen / "device/physfn").resolve(strict=True) == pci / "0000:11:00.0"
    assert (seen / "subsystem").resolve(strict=True) == sysfs.classes
    assert all(path.exists() for path in seen.iterdir())


def test_write_is_idempotent_and_repairs(vf: Device, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    assert cdi.write(folder, vf)
    assert not cdi.write(folder, vf)
    path = cdi.file_of(folder, vf.name)
    path.write_bytes(b"\xff{")
    assert cdi.write(folder, vf)
    check(json.loads(path.read_text()))
    links = cdi.links_of(folder, vf.name)
    before = links.stat().st_ino
    (links / "uuid").unlink()
    (links / "device").unlink()
    (links / "device").symlink_to("elsewhere")
    (links / "status").unlink()
    (links / "status").write_text("0")
    (links / "more").mkdir()
    assert cdi.write(folder, vf)
    assert files.links_in(links) == dict(vf.links)
    assert links.stat().st_ino == before, "running containers have the folder mounted"
    shutil.rmtree(links)
    links.symlink_to("elsewhere")
    assert cdi.write(folder, vf)
    assert files.links_in(links) == dict(vf.links)
    assert not links.is_symlink()
    assert cdi.delete(folder, vf.name)
    assert not cdi.delete(folder, vf.name)
    assert list(folder.iterdir()) == []


def test_leftovers_are_found_and_removed(vf: Device, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    cdi.write(folder, vf)
    cdi.file_of(folder, vf.name).unlink()
    half = folder / ".example.com_mock-accel-mock0_vf0.links.tmp"
    half.mkdir()
    (half / "uuid").symlink_to("half")
    assert cdi.names(folder) == {"mock0_vf0"}
    cdi.remove_half_written(folder)
    assert cdi.delete(folder, vf.name)
    assert list(folder.iterdir()) == []


def test_a_killed_writer_is_no_obstacle(vf: Device, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    half = folder / ".example.com_mock-accel-mock0_vf0.links.tmp"
    half.mkdir(parents=True)
    (half / "uuid").symlink_to("half")
    assert cdi.write(folder, vf)
    assert cdi.is_right(folder, vf)
    assert not half.exists()


def test_the_link_of_an_earlier_driver_is_removed(vf: Device, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    folder.mkdir()
    old = folder / "example.com_mock-accel-mock0_vf0.link"
    old.symlink_to("../../devices/gone")
    assert cdi.names(folder) == {"mock0_vf0"}
    assert cdi.write(folder, vf)
    assert not old.is_symlink()
    old.symlink_to("../../devices/gone")
    assert cdi.delete(folder, vf.name)
    assert list(folder.iterdir()) == []


def test_a_new_cdi_folder_is_readable_for_the_root_user_of_a_pod(vf: Device, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        cdi.write(tmp_path / "run" / "cdi", vf)
    finally:
        os.umask(before)
    assert (tmp_path / "run" / "cdi").stat().st_mode & 0o777 == 0o755
    assert cdi.links_of(tmp_path / "run" / "cdi", vf.name).stat().st_mode & 0o777 == 0o755


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == "old"
