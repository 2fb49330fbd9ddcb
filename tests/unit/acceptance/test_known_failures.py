"""Known failures of Kubernetes' own tests: the file, and what a result means."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mock_device.acceptance import known_failures
from mock_device.acceptance.ginkgo_report import State, Test
from mock_device.acceptance.known_failures import Judged, KnownFailures, Verdict
from mock_device.lab.base.errors import StepError
from mock_device.lab.build import gobuild

ENTRY = {
    "test": "[DRA] must retry",
    "message": "claim .* not ready",
    "cause": "upstream",
    "reason": "the kubelet forgets it",
    "reference": "https://issues.example/1",
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "failures.yaml"
    path.write_text(yaml.safe_dump({"kubernetes": "v1.37.2", "failures": [{**ENTRY, **changes}]}))
    return path


@pytest.fixture
def known(tmp_path: Path) -> KnownFailures:
    return known_failures.load(written(tmp_path))


def judged(known: KnownFailures, *tests: Test, gates: tuple[str, ...] = ()) -> list[Judged]:
    return known_failures.judge(tests, known, gates)


def failed(message: str, name: str = "[DRA] must retry", images: tuple[str, ...] = ()) -> Test:
    return Test(name, State.FAILED, 2.0, message, missing_images=images)


def test_the_list_of_the_project_is_of_its_kubernetes() -> None:
    """Run `make kubernetes-e2e` after an update of Kubernetes, and look at every entry."""
    assert known_failures.load(known_failures.KUBERNETES_E2E).kubernetes == gobuild.kubernetes_version()


def test_a_listed_failure_has_its_cause(known: KnownFailures) -> None:
    (found,) = judged(known, failed("claim x is not ready\nafter 1 s"))
    assert found == Judged(
        "[DRA] must retry", Verdict.UPSTREAM, 2.0, "the kubelet forgets it", "https://issues.example/1"
    )


@pytest.mark.parametrize(
    ("cause", "verdict"),
    [("ours", Verdict.OURS), ("upstream", Verdict.UPSTREAM), ("missing-image", Verdict.MISSING_IMAGE)],
)
def test_every_cause_has_a_verdict(tmp_path: Path, cause: str, verdict: Verdict) -> None:
    known = known_failures.load(written(tmp_path, cause=cause))
    assert [item.verdict for item in judged(known, failed("claim x is not ready"))] == [verdict]


def test_another_failure_of_a_listed_test_is_unknown(known: KnownFailures) -> None:
    (found,) = judged(known, failed("expected\n  <int>: 1"))
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "expected <int>: 1; it is listed with another message"


def test_a_failure_of_another_test_is_unknown(known: KnownFailures) -> None:
    (found,) = judged(known, failed("claim x is not ready", "[DRA] must not retry"))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "claim x is not ready")


def test_an_unknown_failure_names_missing_images(known: KnownFailures) -> None:
    (found,) = judged(known, failed("timed out", "[DRA] other", ("r.example/a:1",)))
    assert found.reason == "timed out; no node has the image r.example/a:1"


def test_a_listed_failure_that_passes_is_reported(known: KnownFailures) -> None:
    (found,) = judged(known, Test("[DRA] must retry", State.PASSED, 1.0))
    assert found.verdict is Verdict.FIXED
    assert "remove it from the list" in found.reason


def test_a_test_that_did_not_run_says_why(known: KnownFailures) -> None:
    gated = Test("a", State.NOT_RUN, 0.0, labels=("DRA", "FeatureGate:One", "FeatureGate:Two"))
    other = Test("b", State.NOT_RUN, 0.0, labels=("DRA", "FeatureGate:One"))
    skipped = Test("c", State.SKIPPED, 0.5, "2 nodes required,\n only have 1")
    found = judged(known, gated, other, skipped, gates=("One",))
    assert [(item.test, item.verdict, item.reason) for item in found] == [
        ("c", Verdict.SKIPPED, "2 nodes required, only have 1"),
        ("a", Verdict.NOT_RUN, "feature gate Two is off"),
        ("b", Verdict.NOT_RUN, "not selected"),
    ]


def test_the_worst_comes_first(known: KnownFailures) -> None:
    passed = Test("[DRA] a", State.PASSED, 1.0)
    found = judged(known, passed, failed("claim x is not ready"), failed("?", "[DRA] z"))
    assert [item.verdict for item in found] == [Verdict.UNKNOWN, Verdict.UPSTREAM, Verdict.PASSED]


def test_tests_that_the_suite_lacks_are_found(known: KnownFailures) -> None:
    assert known_failures.unknown_tests(known, ["[DRA] must retry", "[DRA] b"]) == []
    assert known_failures.unknown_tests(known, ["[DRA] b"]) == ["[DRA] must retry"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cause": "bad luck"}, "failures.0.cause: expected ours, upstream or missing-image, found 'bad luck'"),
        ({"reason": ""}, "failures.0.reason"),
        ({"since": "v1.37"}, "failures.0: unknown keys since; expected test, message"),
        ({"message": "(unclosed"}, "must retry: message: expected a regular expression: missing \\)"),
    ],
)
def test_a_wrong_list_is_an_error(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(StepError, match=message):
        known_failures.load(path)


def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="cannot be read"):
        known_failures.load(tmp_path / "none.yaml")


def test_long_messages_are_cut_off() -> None:
    assert known_failures.one_line("a\tb\n" * 200, 9) == "a b a b …"
