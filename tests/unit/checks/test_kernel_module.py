"""The kernel module on nodes, read without its loader."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import kernel_module

NOW = timedelta(0)


def session(*answers: str) -> Any:
    """A session whose nodes give ``answers``, one for each command, and repeat the last one."""
    left = list(answers)

    def on_node(_: str, command: str, timeout: float | None = None) -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    def on_nodes(command: str, timeout: float | None = None) -> dict[str, str]:
        return {"node1": "4711\n", "node2": on_node("node2", command)}

    return SimpleNamespace(on_node=on_node, on_nodes=on_nodes)


def local(_: str, command: str, timeout: float | None = None) -> str:
    """Run a node's command here."""
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=10).stdout


def test_each_load_has_an_identity() -> None:
    assert kernel_module.load_id(session("4711\n"), "node1") == "4711"


def test_module_that_is_not_loaded_has_no_identity() -> None:
    with pytest.raises(CheckError, match="node1: expected mock_accel to be loaded, found no /sys/module/mock_accel"):
        kernel_module.load_id(session("\n"), "node1")


def test_wait_for_a_load_names_the_nodes_that_lack_it() -> None:
    kernel_module.wait_loaded(session("\n"), ["node1"], NOW)
    kernel_module.wait_loaded(session("\n"), ["node2"], NOW, loaded=False)
    with pytest.raises(CheckError, match="node2: expected mock_accel to be loaded"):
        kernel_module.wait_loaded(session("\n"), ["node1", "node2"], NOW)
    with pytest.raises(CheckError, match="node1: expected mock_accel not to be loaded"):
        kernel_module.wait_loaded(session("\n"), ["node1", "node2"], NOW, loaded=False)


def test_wait_for_another_load_ends_when_it_is_there() -> None:
    kernel_module.wait_loaded_again(session("4711\n", "\n", "4712\n"), "node1", "4711", timedelta(seconds=5))


@pytest.mark.parametrize(("answer", "reason"), [("4711\n", "it is still the same load"), ("\n", "it is not loaded")])
def test_wait_for_another_load_says_what_is_there(answer: str, reason: str) -> None:
    with pytest.raises(CheckError, match=f"node1: expected mock_accel to be loaded again after 0 s:\n{reason}"):
        kernel_module.wait_loaded_again(session(answer), "node1", "4711", NOW)


@pytest.mark.parametrize(
    ("text", "expected", "complaints"),
    [
        ("firmware", "firmware", []),
        ("firmware\n", "firmware", []),
        ("other", "firmware", ["{path}: expected 'firmware', found 'other'"]),
        (None, "firmware", ["{path}: expected 'firmware', found no such file"]),
        (None, None, []),
        ("", None, ["{path}: expected no such file, found one"]),
        ("", "", []),
    ],
)
def test_file_on_a_node_is_compared(
    text: str | None, expected: str | None, complaints: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "it's firmware"
    if text is not None:
        path.write_text(text)
    found = kernel_module.read_file(SimpleNamespace(on_node=local), "node1", str(path))  # type: ignore[arg-type]
    assert kernel_module.file_complaints(str(path), found, expected) == [
        complaint.format(path=path) for complaint in complaints
    ]
