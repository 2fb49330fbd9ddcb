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


@pytest.mark.parametrize(
    ("codes", "ran", "code"),
    [
        ("0 0 0", "nightly kvm e2e", 0),
        ("1 0 0", "nightly kvm e2e", 1),
        ("0 1 0", "nightly kvm e2e", 1),
        ("0 0 1", "nightly kvm e2e", 1),
        ("130 0 0", "nightly", 130),
        ("1 130 0", "nightly kvm", 130),
    ],
)
def test_a_night_runs_all_its_parts_unless_it_is_interrupted(tmp_path: Path, codes: str, ran: str, code: int) -> None:
    folder = checkout(tmp_path / "checkout")
    nightly, kvm, e2e = codes.split()
    log = tmp_path / "log"
    parts = {"*nightly*": ("nightly", nightly), "*kvm*": ("kvm", kvm), "*kubernetes_e2e*": ("e2e", e2e)}
    cases = " ".join(f"{words}) echo {name} >>{log}; exit {end};;" for words, (name, end) in parts.items())
    script(folder / ".venv/bin/python", f'case "$*" in {cases} esac')
    script(folder / ".venv/bin/lab", "")
    (folder / ".venv/.complete").touch()
    done = make(folder, "nightly")
    assert log.read_text().split() == ran.split()
    assert done.returncode == (2 if code else 0)  # make's own; its message has the command's
    assert not code or f"Error {code}" in done.stderr


def test_a_night_of_some_topologies_has_only_rounds(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    script(folder / ".venv/bin/python", f'echo "$*" >>{tmp_path}/log')
    script(folder / ".venv/bin/lab", "")
    (folder / ".venv/.complete").touch()
    assert make(folder, "nightly", "TOPOLOGIES=dense").returncode == 0
    assert not [line for line in (tmp_path / "log").read_text().splitlines() if "kvm" in line or "e2e" in line]
