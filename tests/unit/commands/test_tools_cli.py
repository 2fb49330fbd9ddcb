"""Commands that look into a cluster, and the probes that they run on nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.recorded_cluster import NODE1, NODE2, shown
from support.topologies import CLUSTER

from mock_device.checks.driver.driver import Component
from mock_device.checks.errors import CheckError
from mock_device.checks.nodes import observe, sysfs
from mock_device.checks.nodes.cdi import FOLDER
from mock_device.checks.nodes.session import Session
from mock_device.commands import cli
from mock_device.diagnosis import folders
from mock_device.diagnosis.folders import Folder
from mock_device.lab.cluster import client
from mock_device.tools import logs, looking
from mock_device.tools.logs import Severity


@pytest.mark.parametrize("line", ["--help", "logs --help", "status --help", "no-such-command"])
def test_help_imports_nothing_that_only_commands_use(line: str) -> None:
    check = (
        "import sys; from mock_device.commands import cli; cli.main(sys.argv[1:]); "
        "heavy = ('mock_device.diagnosis', 'mock_device.tools', 'mock_device.checks', 'mock_device.lab.cluster', "
        "'mock_device.lab.build', 'kubernetes', 'urllib3', 'rich'); "
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", check, *line.split()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_selection_of_lines(half_silent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    selections: list[logs.Selection] = []

    def read(_: Session, selection: logs.Selection) -> list[logs.LogLine]:
        selections.append(selection)
        return []

    monkeypatch.setattr(logs, "read", read)
    line = "logs --component module-loader --severity warning --grep load --since 5m --calls"
    assert cli.main(line.split()) == 0
    (selection,) = selections
    assert (selection.component, selection.severity) == (Component.MODULE_LOADER, Severity.WARNING)
    assert (selection.since, selection.calls, selection.node) == (300, True, None)
    assert selection.grep and selection.grep.pattern == "load"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["logs", "--since", "5"], "expected a time like 30s, 5m or 1h, found '5'"),
        (["logs", "--since", "0m"], "expected a time like 30s, 5m or 1h, found '0m'"),
        (["logs", "--grep", "("], "expected a regular expression, found '('"),
        (["verbosity", "much"], "'much' is not a valid integer"),
        (
            ["verbosity", "5", "--component", "module-loader"],
            "'module-loader' is not one of 'node-agent', 'controller'",
        ),
        (
            ["cdi"],
            "Missing argument '{list|show|check|watch}'. Choose from: list, show, check, watch; see: lab cdi -",
        ),
    ],
)
def test_bad_usage(line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line) == 2
    assert message in capsys.readouterr().err


def probe(folder: Path) -> Folder:
    script = folders.PROBE.replace(FOLDER, str(folder))
    return folders.parse("n", subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout)


def agent_probe(folder: Path) -> Folder:
    script = folders.AGENT_PROBE.replace(FOLDER, str(folder))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return folders.parse("n", done.stdout)


def test_node_and_agent_see_the_same_folder(tmp_path: Path) -> None:
    found = tmp_path.stat()
    expected = Folder("directory", f"{found.st_dev}:{found.st_ino}", readable=True, writable=True)
    assert probe(tmp_path) == agent_probe(tmp_path) == expected


def test_missing_folder_and_file_in_its_place(tmp_path: Path) -> None:
    assert probe(tmp_path / "cdi") == agent_probe(tmp_path / "cdi") == Folder("absent", "", False, False)
    (tmp_path / "cdi").touch()
    assert probe(tmp_path / "cdi").kind == "regular empty file"
    assert agent_probe(tmp_path / "cdi").kind == "no directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root may")
def test_folder_below_a_read_only_mount(tmp_path: Path) -> None:
    """Covered as by checks.nodes.cdi_folder: root ignores permissions, but cannot write to a read-only mount."""
    below = probe(tmp_path)
    script = f"mount -t tmpfs -o ro,mode=000 tmpfs {tmp_path}\n{folders.PROBE.replace(FOLDER, str(tmp_path))}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    covered = folders.parse("n", done.stdout)
    assert (covered.kind, covered.writable, covered.mounted) == ("directory", False, True)
    assert covered.inode != below.inode and below.writable and not below.mounted


def test_other_output_than_the_probes_is_rejected() -> None:
    with pytest.raises(ValueError, match="n: expected kind, inode, access and mount of /var/run/cdi, found 'x'"):
        folders.parse("n", "x")


class Cluster:
    """Two nodes, the second of which is silent."""

    topology = CLUSTER
    look_seconds = 3.0

    def node(self, name: str) -> str:
        return name

    def release(self) -> None: ...


class Shell:
    def __init__(self, node: str) -> None:
        self._node = node

    def run(self, command: str, timeout: float) -> str:
        assert timeout == Cluster.look_seconds
        if self._node == NODE2:
            raise CheckError(f"{NODE2}: no answer over SSH within {timeout:.0f} s")
        return "end\n"

    def close(self) -> None: ...


@pytest.fixture
def half_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "attach", lambda *_: Cluster())
    monkeypatch.setattr(looking, "NodeShell", Shell)


@pytest.mark.parametrize("line", ["devices", "cdi show", "cdi show --json"])
def test_silent_node_does_not_hide_the_others(
    line: str, half_silent: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_first = [shown(CLUSTER.nodes[0])]
    monkeypatch.setattr(observe, "read_devices", lambda session, _: session.on_nodes(sysfs.PROBE) and of_first)
    assert cli.main(line.split()) == 1
    output = capsys.readouterr()
    assert output.err == f"lab: {NODE2}: no answer over SSH within 3 s\n"
    if line == "devices":
        assert {row.split("\t")[0] for row in output.out.splitlines()} == {"node", NODE1}


def test_watch_needs_all_nodes(half_silent: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cdi", "watch", "--seconds", "1"]) == 1
    assert capsys.readouterr().err == f"lab: {NODE2}: no answer over SSH within 3 s\n"
