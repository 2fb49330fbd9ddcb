"""The chart as a release: what Helm is asked, and what is made of its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fake_command import FakeCommand, fake_command

from mock_device.lab.base.errors import StepError
from mock_device.lab.build import chart
from mock_device.lab.cluster.release import Release, Revision, parse_history
from mock_device.lab.kube import kubeclient, manifests

HISTORY = [
    {"revision": 1, "status": "superseded", "description": "Install complete", "app_version": "0.1.0"},
    {"revision": 2, "status": "deployed", "description": "Upgrade complete", "app_version": "0.1.0"},
]
MANIFEST = "kind: DaemonSet\n---\nkind: Deployment\n"
SECONDS = 600.0
# Lists one release; prints the history; fails for the value that is broken.
ANSWERS = [
    f"history = {json.dumps(HISTORY)!r}",
    "if sys.argv[1] == 'list': print(json.dumps([{'name': 'mock-device'}] if os.environ.get('INSTALLED') else []))",
    "if sys.argv[1] == 'history': print(history)",
    f"if sys.argv[1] == 'get': print({MANIFEST!r})",
    "if '--set=broken=true' in sys.argv: sys.exit('Error: UPGRADE FAILED: resource not ready')",
]


@pytest.fixture
def helm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCommand:
    monkeypatch.setenv("HELM", "helm")
    return fake_command(monkeypatch, tmp_path, "helm", ANSWERS)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path / "kubeconfig", tmp_path / "helm.log")


def test_history_is_empty_without_a_release(helm: FakeCommand, release: Release) -> None:
    assert release.history() == []
    assert [call["argv"][0] for call in helm.calls] == ["list"]


def test_history_has_all_revisions(helm: FakeCommand, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTALLED", "yes")
    assert release.history() == [
        Revision(1, "superseded", "Install complete"),
        Revision(2, "deployed", "Upgrade complete"),
    ]


@pytest.mark.parametrize("text", ["", '{"revision": 1}', '[{"revision": "x"}]', "[1]"])
def test_history_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(StepError, match="expected a list of revisions from helm history, found"):
        parse_history(text)


def test_install_takes_over_on_request_and_waits(helm: FakeCommand, release: Release, tmp_path: Path) -> None:
    release.install({"module.loader": "none"}, 90)
    release.install({}, 90, take_ownership=True)
    first, second = helm.calls
    assert first["argv"][:4] == ["install", "mock-device", str(chart.CHART), "--set=module.loader=none"]
    assert {"--wait", "--timeout=90s", "--namespace=mock-device"} <= set(first["argv"])
    assert "--take-ownership" not in first["argv"]
    assert "--take-ownership" in second["argv"]
    assert first["env"]["KUBECONFIG"] == str(tmp_path / "kubeconfig")


def test_helm_keeps_nothing_of_a_cluster(helm: FakeCommand, release: Release) -> None:
    release.uninstall(30)
    _, call = helm.calls
    assert call["argv"][:3] == ["uninstall", "mock-device", "--ignore-not-found"]
    for name in ("KUBECACHEDIR", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        assert not Path(call["env"][name]).parent.exists()


def test_uninstall_waits_itself_for_every_object(
    helm: FakeCommand, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[object] = []

    def wait_gone(api: str, objects: list[dict[str, str]], namespace: str, timeout: float) -> None:
        assert [call["argv"][0] for call in helm.calls] == ["list", "get", "uninstall"]
        waited.extend([api, [item["kind"] for item in objects], namespace])
        assert 0 < timeout <= SECONDS

    monkeypatch.setattr(kubeclient, "connect", lambda kubeconfig: f"client of {kubeconfig.name}")
    monkeypatch.setattr(manifests, "wait_gone", wait_gone)
    monkeypatch.setenv("INSTALLED", "yes")
    release.uninstall(SECONDS)
    assert waited == ["client of kubeconfig", ["DaemonSet", "Deployment"], "mock-device"]


def test_rollback_names_its_revision(helm: FakeCommand, release: Release) -> None:
    release.roll_back(1, 30)
    assert helm.calls[0]["argv"][:3] == ["rollback", "mock-device", "1"]


def test_failed_upgrade_is_rolled_back_and_has_helms_message(
    helm: FakeCommand, release: Release, tmp_path: Path
) -> None:
    with pytest.raises(StepError, match=r"UPGRADE FAILED: resource not ready[\s\S]*log: .*helm\.log"):
        release.upgrade({"broken": "true"}, 30)
    assert {"--reset-values", "--rollback-on-failure"} <= set(helm.calls[0]["argv"])
    assert "UPGRADE FAILED" in (tmp_path / "helm.log").read_text()


def test_label_marks_a_release_and_finds_it(helm: FakeCommand, release: Release) -> None:
    release.install({"nodeAgent.affinity": {"nodeAffinity": {}}}, 90, label="example.com/mark=one")
    assert not release.exists("example.com/mark=one")
    install, found = helm.calls
    assert {"--labels=example.com/mark=one", '--set-json=nodeAgent.affinity={"nodeAffinity": {}}'} <= set(
        install["argv"]
    )
    assert "--selector=example.com/mark=one" in found["argv"]
