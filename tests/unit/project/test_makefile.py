"""Makefiles: checkouts that they reject, and the cluster on which they work."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mock_device.lab.base.paths import PROJECT

TIMEOUT = 30.0


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def checkout(folder: Path) -> Path:
    """A folder with the Makefile and the files on which its virtual environment depends."""
    (folder / "dra-driver").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "dra-driver/requirements.txt"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("LAB_CLUSTER", "MAKEFLAGS", "CLUSTER")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("name", ["my lab", "my:lab", "my\tlab", "my#lab", "my$lab", "my%lab", "it's"])
def test_unsupported_checkout_path_is_rejected(tmp_path: Path, name: str) -> None:
    folder = checkout(tmp_path / name)
    python = script(tmp_path / "python", f'touch "{tmp_path}/written"')
    before = sorted(tmp_path.rglob("*"))
    for target in ("venv", "setup", "numa", "clean"):
        done = make(folder, target, f"PYTHON={python}")
        assert done.returncode == 2
        assert f"found '{folder}'; clone it to another folder" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["mock-device", "mock_device.2", "a+b@c", "ä"])
def test_virtual_environment_is_created_in_the_checkout(tmp_path: Path, name: str) -> None:
    folder = checkout(tmp_path / name)
    done = make(folder, "-n", "venv")
    assert done.returncode == 0, done.stderr
    assert f"-m venv {folder}/.venv\n" in done.stdout


@pytest.mark.parametrize(
    ("environment", "arguments", "found"),
    [
        ({}, [], "cluster=|"),
        ({"LAB_CLUSTER": "mine"}, [], "cluster=mine|"),
        ({"LAB_CLUSTER": "mine"}, ["CLUSTER=other"], "cluster=mine| --name other"),
    ],
)
def test_driver_is_deployed_on_the_shells_cluster(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], found: str
) -> None:
    script(
        tmp_path / "bin" / "lab",
        'case $1 in build) printf "what\\t/image.tar\\n";; *) echo "cluster=$LAB_CLUSTER| $*"; esac',
    )
    cluster, _, named = found.partition("|")
    expected = {
        "load-image": f"load-image{named} /image.tar",
        "deploy": f"deploy{named}",
        "undeploy": f"deploy --undo{named}",
    }
    for target, line in expected.items():
        done = make(PROJECT / "dra-driver", "-s", target, f"VENV={tmp_path}", *arguments, **environment)
        assert (done.stdout, done.stderr) == (f"{cluster}| {line}\n", "")
