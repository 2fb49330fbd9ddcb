"""Writing files atomically, and removing folders."""

from __future__ import annotations

from pathlib import Path

from mock_device.lab.base import files


def test_write_file_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    files.write_file(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_tree_is_removed_whatever_its_permissions_are(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed" / "deeper").mkdir(parents=True)
    (tree / "link").symlink_to(tmp_path)
    for folder in (tree / "closed" / "deeper", tree / "closed", tree):
        folder.chmod(0)
    files.remove_tree(tree)
    assert [path.name for path in tmp_path.iterdir()] == []
