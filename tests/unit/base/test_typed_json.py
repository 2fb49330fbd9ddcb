"""Damaged JSON files of the lab."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.fake_supervisor import SPEC

from mock_device.lab.base.spec import Access, ClusterPaths, ClusterSpec, DamagedFileError

ACCESS = Access(6443, {"node1": 2222}, 5001)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in asdict(SPEC).items() if key != name}


def test_saved_files_can_be_loaded(tmp_path: Path) -> None:
    SPEC.save(tmp_path / "spec.json")
    ACCESS.save(tmp_path / "access.json")
    assert ClusterSpec.load(tmp_path / "spec.json") == SPEC
    assert Access.load(tmp_path / "access.json") == ACCESS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "expected JSON, found an empty file"),
        (" \n", "expected JSON, found an empty file"),
        ("{", "expected JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[" * 100_000, "expected JSON: "),
        (b"\xff\xfe{}", "expected JSON: "),
        ("[]", "expected an object at the top, found an array"),
        ("null", "expected an object at the top, found null"),
        ("7", "expected an object at the top, found 7"),
        (json.dumps(without("qemu")), "expected .qemu, found no such key"),
        (json.dumps(asdict(SPEC) | {"colour": "red"}), "found unknown keys .colour"),
        (json.dumps(asdict(SPEC) | {"qemu": "x"}), 'expected an object at .qemu, found "x"'),
        (json.dumps(asdict(SPEC) | {"image": {}}), "expected .image.disk, .image.disk_format, .image.initrd, "),
        (json.dumps(asdict(SPEC) | {"topology": None}), "expected a string at .topology, found null"),
        (json.dumps(asdict(SPEC) | {"control_fd": True}), "expected a whole number at .control_fd, found true"),
        (json.dumps(asdict(SPEC) | {"timeout_factor": "2"}), 'expected a number at .timeout_factor, found "2"'),
        (json.dumps(asdict(SPEC) | {"qemu_img": [1]}), "expected a string at .qemu_img[0], found 1"),
        (json.dumps(asdict(SPEC) | {"ssh_fds": {"n": "5"}}), 'expected a whole number at .ssh_fds.n, found "5"'),
    ],
)
def test_error_of_a_damaged_file_is_one_line_with_the_remedy(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = tmp_path / "some" / "spec.json"
    path.parent.mkdir()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DamagedFileError) as caught:
        ClusterSpec.load(path)
    message = str(caught.value)
    assert message.startswith(f"cluster 'some': {path} is damaged: {reason}")
    assert message.endswith("; stop the cluster: lab down --name some")
    assert "\n" not in message


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="No such file or directory.*lab down --name"):
        Access.load(ClusterPaths(tmp_path).access)
