"""The workflows in .github are valid by the published schemas and only call existing targets."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import yaml

from mock_device.acceptance.nightly import OTHER_CLUSTERS
from mock_device.lab.base.paths import PROJECT
from mock_device.lab.base.variables import topology_names

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((PROJECT / ".github" / "actions").glob("*/action.yml"))
FILES = [*WORKFLOWS, *ACTIONS]
GUIDES = sorted((PROJECT / "docs").glob("*.md"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def schema_complaints(path: Path) -> str:
    """Errors of check-jsonschema, with its bundled schema; empty if the file is valid."""
    schema = "vendor.github-actions" if path.name == "action.yml" else "vendor.github-workflows"
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    ended = run(argv, capture_output=True, text=True, check=False, timeout=60)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    if path in ACTIONS:
        yield from yaml.safe_load(path.read_text())["runs"]["steps"]
    else:
        for job in jobs(path).values():
            yield from job["steps"]


def called_targets(script: str) -> set[str]:
    """Targets of each ``make`` in a shell script, without options and variables."""
    found: set[str] = set()
    plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
    for line in plain.splitlines():
        for words in re.findall(r"(?:^|[;&|({]\s*|\s)make((?:\s+[^\s;&|<>#]+)*)", line.partition(" #")[0]):
            found |= {word for word in shlex.split(words) if not word.startswith("-") and "=" not in word}
    return found


def make_targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return set(phony.split())


def test_both_workflows_exist() -> None:
    assert [path.name for path in WORKFLOWS] == ["nightly.yml", "pull-request.yml"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_workflow_is_valid(path: Path) -> None:
    assert schema_complaints(path) == ""


def test_schema_rejects_an_invalid_workflow(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert "runs-on" in schema_complaints(bad)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_workflow_only_calls_existing_make_targets(path: Path) -> None:
    called = set().union(*(called_targets(step.get("run", "")) for step in steps(path)))
    assert called
    assert called <= make_targets()


def test_targets_are_found_in_scripts() -> None:
    script = """
        make --no-print-directory nightly-table >table.txt || code=$?
        make nightly TOPOLOGIES=${{ matrix.topology }} ARGS="-- --exclude x" && make down clean | tee log  # make fun
        cd x; make -C dra-driver deploy
        """
    # Workflows must not use -C, so its argument counts as a target and fails.
    assert called_targets(script) == {"nightly-table", "nightly", "--", "down", "clean", "dra-driver", "deploy"} - {
        "--"
    }
    assert not called_targets("make nonsense") <= make_targets()


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_guides_only_call_existing_make_targets(path: Path) -> None:
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    assert set().union(*(called_targets(block) for block in blocks)) <= make_targets()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_actions_are_pinned_or_local(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    for action in used:
        if action.startswith("./"):
            assert (PROJECT / action / "action.yml").is_file()
        else:
            assert re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v\d+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_job_has_a_deadline_and_may_only_read(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert 0 < job["timeout-minutes"] <= 360, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_jobs_with_clusters_clean_up_and_keep_results_and_logs(path: Path) -> None:
    found = [job for job in jobs(path).values() if any("machine" in step.get("uses", "") for step in job["steps"])]
    assert found
    for job in found:
        when = [(step.get("if"), step.get("uses") or step.get("run")) for step in job["steps"]]
        assert when[-1] == ("always()", "make down clean")
        assert ("always()", "actions/upload-artifact@v4") in when
        assert ("failure()", "actions/upload-artifact@v4") in when


def test_nightly_runs_all_topologies() -> None:
    (path,) = (path for path in WORKFLOWS if path.name == "nightly.yml")
    assert jobs(path)["rounds"]["strategy"]["matrix"]["topology"] == [*topology_names(), *OTHER_CLUSTERS]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_host_is_named(path: Path) -> None:
    """Registries are reached through the machine's own configuration."""
    assert "://" not in path.read_text()
