"""Cluster profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.schema_check import objections

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.variables import PROFILE_SCHEMA
from mock_device.lab.cluster import profile
from mock_device.lab.cluster.loader_settings import CertKind, KmmSettings, LoaderKind
from mock_device.lab.guest.accelerator import accelerator


def test_default_profile_is_valid() -> None:
    found = profile.load("embedded")
    assert found.kind == "embedded"
    assert found.accelerator == accelerator()
    assert found.feature_gates["DRAPartitionableDevices"] is True
    assert found.default_runtime == "crun"


def test_profile_runc_differs_in_the_runtime_only() -> None:
    default, found = profile.load("embedded"), profile.load("runc")
    assert found.default_runtime == "runc"
    assert replace(found, path=default.path, default_runtime="crun") == default


def test_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, accelerator: tcg, feature-gates: {B: false, A: true}}")
    found = profile.load(str(path))
    assert (found.accelerator, profile.flag(found.feature_gates)) == ("tcg", "A=true,B=false")
    assert found.default_runtime == "crun"


def test_profile_alpha_turns_on_more_gates_and_apis() -> None:
    default, found = profile.load("embedded"), profile.load("alpha")
    assert found.feature_gates.items() > default.feature_gates.items()
    assert found.runtime_config.items() > default.runtime_config.items()
    gates, versions = default.feature_gates, default.runtime_config
    assert replace(found, path=default.path, feature_gates=gates, runtime_config=versions) == default


def test_api_versions_become_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, runtime-config: {resource.k8s.io/v1alpha3: true, apps/v1: false}}")
    assert profile.flag(profile.load(str(path)).runtime_config) == "apps/v1=false,resource.k8s.io/v1alpha3=true"


def test_stand_in_has_the_settings_of_k3s(monkeypatch: pytest.MonkeyPatch) -> None:
    real, stand_in = profile.load("k3s"), profile.load("control-plane-on-node")
    assert real.k3s and stand_in.k3s
    assert stand_in.kind == real.kind == "k3s"
    assert stand_in.k3s.spec == real.k3s.spec
    embedded = profile.load("embedded")
    assert stand_in.feature_gates == embedded.feature_gates
    assert stand_in.runtime_config == embedded.runtime_config
    assert stand_in.k3s.find_binary() is None
    monkeypatch.delenv("K3S_BINARY", raising=False)
    with pytest.raises(StepError, match="no binary of k3s"):
        real.k3s.find_binary()


def test_flags_of_k3s_are_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: k3s, k3s: {server-flags: {cluster-init: true, disable: [a, b], v: 2}}}")
    found = profile.load(str(path)).k3s
    assert found
    assert found.spec.server == {"cluster-init": ["true"], "disable": ["a", "b"], "v": ["2"]}
    assert found.spec.nodes == {}


@pytest.mark.parametrize("kind", ["kind: embedded", "kind: k3s, k3s: {}"])
def test_keys_of_the_kubelet_become_a_drop_in(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{{{kind}, kubelet-config: {{maxPods: 9}}}}")
    found = yaml.safe_load(profile.load(str(path)).kubelet_drop_in())
    assert (found["kind"], found["maxPods"]) == ("KubeletConfiguration", 9)


@pytest.mark.parametrize("name", ["embedded", "runc", "k3s"])
def test_containers_that_end_again_and_again_are_soon_started_again(name: str) -> None:
    """With Kubernetes' default of 5 min, tests that kill a program wait for the back-off."""
    assert profile.load(name).kubelet_config["crashLoopBackOff"] == {"maxContainerRestartPeriod": "2s"}


def test_profile_that_extends_another_changes_single_keys(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("{kind: embedded, accelerator: tcg, feature-gates: {A: true}}")
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, extends: base.yaml, feature-gates: {B: true}}")
    found = profile.load(str(path))
    assert (found.accelerator, found.feature_gates) == ("tcg", {"A": True, "B": True})


def test_guests_reach_the_outside_only_if_the_profile_says_so(tmp_path: Path) -> None:
    assert profile.load("embedded").internet is False
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, internet: true}")
    assert profile.load(str(path)).internet is True


def test_guests_run_guests_only_if_the_profile_says_so(tmp_path: Path) -> None:
    assert profile.load("embedded").nested is False
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, nested-virtualisation: true}")
    assert profile.load(str(path)).nested is True


def test_time_outs_have_the_factor_of_the_profile(tmp_path: Path) -> None:
    assert profile.load("embedded").timeout_factor == profile.load("k3s").timeout_factor == 1
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, timeout-factor: 2.5}")
    assert profile.load(str(path)).timeout_factor == 2.5


def test_module_loader_is_the_pod_unless_the_profile_says_kmm(tmp_path: Path) -> None:
    assert profile.load("embedded").module_loader is LoaderKind.POD
    path = tmp_path / "kmm.yaml"
    files = "manifests: kmm.yaml, images: [a.tar, b/*.tar], cert: cert-manager, cert-manager-images: c.tar"
    path.write_text(f"{{kind: embedded, module-loader: kmm, kmm: {{{files}}}}}")
    found = profile.load(str(path))
    assert found.module_loader is LoaderKind.KMM
    assert found.kmm == KmmSettings(
        ("kmm.yaml",), ("a.tar", "b/*.tar"), cert=CertKind.CERT_MANAGER, cert_manager_images=("c.tar",)
    )


# The JSON schema finds these faults, too.
BAD_SHAPE = [
    ("", "expected a mapping, found None"),
    ("kind: cloud", "kind: expected embedded, k3s or external, found 'cloud'"),
    ("accelerator: tcg", "expected the key kind"),
    ("{kind: embedded, accelerator: fast}", "accelerator: expected auto, kvm or tcg, found 'fast'"),
    ("{kind: embedded, gates: {}}", "unknown keys gates; expected kind, accelerator, default-runtime, feature-gates"),
    ("{kind: embedded, default-runtime: kata}", "default-runtime: expected crun or runc, found 'kata'"),
    ("{kind: embedded, feature-gates: {A: 'yes'}}", "feature-gates.A: expected true or false, found 'yes'"),
    ("{kind: embedded, feature-gates: {'A=true,B': true}}", "feature-gates: expected text that matches"),
    ("{kind: embedded, runtime-config: {resource.k8s.io: true}}", "runtime-config: expected text that matches"),
    ("{kind: embedded, runtime-config: {apps/v1: 'yes'}}", "runtime-config.apps/v1: expected true or false"),
    ("{kind: embedded, k3s: {}}", "k3s: this key is not allowed here"),
    ("{kind: k3s}", "expected the key k3s"),
    ("{kind: k3s, k3s: {version: v1.37.2+k3s1}}", "k3s: 'sha256' is a dependency of 'version'"),
    ("{kind: k3s, k3s: {sha256: abc}}", "k3s.sha256: expected text that matches"),
    ("{kind: k3s, k3s: {server-flags: {disable: {a: 1}}}}", "k3s.server-flags.disable: expected text, true or false"),
    ("{kind: k3s, k3s: {node-flags: [crun]}}", "k3s.node-flags: expected a mapping"),
    ("{kind: embedded, internet: 1}", "internet: expected true or false, found 1"),
    ("{kind: embedded, nested-virtualisation: 1}", "nested-virtualisation: expected true or false, found 1"),
    ("{kind: embedded, timeout-factor: 0.4}", "timeout-factor: expected a number from 0.5 to 20, found 0.4"),
    ("{kind: embedded, timeout-factor: 21}", "timeout-factor: expected a number from 0.5 to 20, found 21"),
    ("{kind: embedded, timeout-factor: '2'}", "timeout-factor: expected a number, found '2'"),
    ("{kind: embedded, timeout-factor: yes}", "timeout-factor: expected a number, found True"),
    ("{kind: embedded, module-loader: dkms}", "module-loader: expected pod or kmm, found 'dkms'"),
    ("{kind: embedded, kmm: {cert: own}}", "kmm.cert: expected lab or cert-manager, found 'own'"),
    ("{kind: embedded, kmm: {manifests: 5}}", "kmm.manifests: expected text or a list, found 5"),
    ("{kind: embedded, kmm: {tag: v1}}", "kmm: unknown keys tag; expected manifests, images, version, cert"),
]
# In JSON every key is text; the others are not YAML.
BAD_FOR_THE_LOADER = [
    ("{kind: embedded, feature-gates: {A: true, 1: true}}", "expected text as key, found '1'; quote it"),
    ("kind: [", "cannot be read"),
    ("kind: 2026-13-45", "cannot be read: month must be in"),
    ("[" * 900, "cannot be read"),
    ("extends: gone.yaml", "extends: expected the name of a file beside it, found 'gone.yaml'"),
    ("extends: bad.yaml", "extends: expected a profile without extends, found bad.yaml"),
]


@pytest.mark.parametrize(("text", "reason"), BAD_SHAPE + BAD_FOR_THE_LOADER)
def test_bad_profile_is_refused_with_file_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(StepError, match=rf"bad\.yaml: .*{reason}"):
        profile.load(str(path))


@pytest.mark.parametrize(("text", "reason"), BAD_SHAPE)
def test_schema_rejects_invalid_profiles(text: str, reason: str) -> None:
    assert objections(PROFILE_SCHEMA, text), reason


def test_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(StepError, match="no profile 'cloud'; available: alpha, control-plane-on-node, embedded"):
        profile.load("cloud")
