"""Cluster profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.schema_check import objections

from mock_device.lab.base.defaults import DEFAULT_KUBERNETES
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.kubernetes_version import KubernetesVersion
from mock_device.lab.base.variables import PROFILE_SCHEMA, profile_names
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
    gates = "{ResourceHealthStatus: false, DRAConsumableCapacity: true}"
    path.write_text(f"{{kind: embedded, accelerator: tcg, feature-gates: {gates}}}")
    found = profile.load(str(path))
    assert found.accelerator == "tcg"
    assert profile.flag(found.feature_gates) == "DRAConsumableCapacity=true,ResourceHealthStatus=false"
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
    gates = "{DRADeviceTaints: true, ResourceHealthStatus: {since: v1.36}}"
    (tmp_path / "base.yaml").write_text(f"{{kind: embedded, accelerator: tcg, feature-gates: {gates}}}")
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, extends: base.yaml, feature-gates: {DRADeviceTaints: false}}")
    found = profile.load(str(path))
    assert found.accelerator == "tcg"
    assert found.feature_gates == {"DRADeviceTaints": False, "ResourceHealthStatus": True}


def test_kubernetes_is_the_default_version_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, kubernetes: v1.35}")
    assert profile.load("embedded").kubernetes is DEFAULT_KUBERNETES
    assert profile.load(str(path)).kubernetes is KubernetesVersion.V1_35
    assert profile.load(str(path), KubernetesVersion.V1_36).kubernetes is KubernetesVersion.V1_36
    assert profile.load("control-plane-on-node", KubernetesVersion.V1_34).kubernetes is KubernetesVersion.V1_34


def test_each_other_version_has_a_profile_like_the_default_one() -> None:
    others = [version for version in KubernetesVersion if version is not DEFAULT_KUBERNETES]
    assert [name for name in profile_names() if name.startswith("kubernetes-")] == [f"kubernetes-{v}" for v in others]
    for version in others:
        found = profile.load(f"kubernetes-{version}")
        assert found == replace(profile.load("embedded", version), path=found.path)


@pytest.mark.parametrize("name", ["embedded", "control-plane-on-node"])
def test_cluster_gets_gates_that_its_version_knows(name: str) -> None:
    found = {version: profile.flag(profile.load(name, version).feature_gates) for version in KubernetesVersion}
    later = "DRAPartitionableDevices=true,ResourceHealthStatus=true"
    assert found == {
        KubernetesVersion.V1_34: "KubeletCrashLoopBackOffMax=true,ResourceHealthStatus=true",
        KubernetesVersion.V1_35: later,
        KubernetesVersion.V1_36: later,
        KubernetesVersion.V1_37: (
            "DRAFractionalCapacityRange=true,DRAPartitionableDevices=true,DRAWorkloadResourceClaims=true,"
            "GenericWorkload=true,ResourceHealthStatus=true"
        ),
    }


@pytest.mark.parametrize("name", ["embedded", "control-plane-on-node"])
def test_api_server_gets_api_versions_that_it_has(name: str) -> None:
    """It ends if it does not know one of them."""
    found = {version: profile.flag(profile.load(name, version).runtime_config) for version in KubernetesVersion}
    last = max(KubernetesVersion)
    assert found == {**dict.fromkeys(KubernetesVersion, ""), last: "scheduling.k8s.io/v1beta1=true"}


@pytest.mark.parametrize("version", KubernetesVersion)
def test_profile_with_what_is_alpha_is_for_all_versions(version: KubernetesVersion) -> None:
    gates = profile.load("alpha", version).feature_gates
    assert gates.items() >= profile.load("embedded", version).feature_gates.items()
    assert ("DRAResourcePoolStatus" in gates) is (version >= KubernetesVersion.V1_36)


def test_gate_that_the_version_does_not_know_is_refused_with_file_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{kind: embedded, kubernetes: v1.36, feature-gates: {DRADerivedAttributes: true}}")
    with pytest.raises(StepError, match=r"mine\.yaml: feature-gates\.DRADerivedAttributes: Kubernetes v1\.36 has no"):
        profile.load(str(path))
    assert profile.load(str(path), KubernetesVersion.V1_37).feature_gates == {"DRADerivedAttributes": True}


@pytest.mark.parametrize(
    ("k3s", "gates"), [("version: v1.35.4+k3s1, sha256: " + "a" * 64, {"A": True}), ("binary: /k3s", {"B": True})]
)
def test_k3s_has_the_version_of_its_binary(k3s: str, gates: dict[str, bool], tmp_path: Path) -> None:
    """Its gates are unknown here; ranges are judged by the version that is to be downloaded, else by the default."""
    path = tmp_path / "mine.yaml"
    text = f"kind: k3s, k3s: {{{k3s}}}, feature-gates: {{A: {{until: v1.35}}, B: {{since: v1.36}}}}"
    path.write_text(f"{{{text}}}")
    found = profile.load(str(path))
    assert (found.kubernetes, found.programs, found.feature_gates) == (None, DEFAULT_KUBERNETES, gates)
    reason = (
        r"mine\.yaml: kubernetes: a k3s is of the version of its binary, found v1\.36; choose the binary: k3s\.binary"
    )
    with pytest.raises(StepError, match=reason):
        profile.load(str(path), KubernetesVersion.V1_36)
    path.write_text(f"{{{text}, kubernetes: v1.36}}")
    with pytest.raises(StepError, match=reason):
        profile.load(str(path))


def test_nodes_and_programs_are_of_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(profile, "build_node_image", asked.append)
    monkeypatch.setattr(profile, "k3s_image", lambda *arguments: asked.append(arguments))
    profile.load("kubernetes-v1.35").node_image()
    profile.load("control-plane-on-node", KubernetesVersion.V1_36).node_image()
    assert asked == [KubernetesVersion.V1_35, (None, KubernetesVersion.V1_36)]


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
    ("{kind: embedded, gates: {}}", "unknown keys gates; expected kind, accelerator, default-runtime, kubernetes"),
    ("{kind: embedded, default-runtime: kata}", "default-runtime: expected crun or runc, found 'kata'"),
    ("{kind: embedded, feature-gates: {A: 'yes'}}", "feature-gates.A: expected true or false or a mapping, found"),
    (
        "{kind: embedded, feature-gates: {A: {from: v1.36}}}",
        "feature-gates.A: unknown keys from; expected since, until",
    ),
    ("{kind: embedded, feature-gates: {A: {since: 1.36}}}", "feature-gates.A.since: expected text, found 1.36"),
    ("{kind: embedded, feature-gates: {A: {}}}", "feature-gates.A: "),
    ("{kind: embedded, kubernetes: v1.33}", "kubernetes: expected v1.34, v1.35, v1.36 or v1.37, found 'v1.33'"),
    ("{kind: embedded, kubernetes: 1.36}", "kubernetes: expected v1.34, v1.35, v1.36 or v1.37, found 1.36"),
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
