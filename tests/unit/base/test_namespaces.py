"""Reasons why namespaces cannot be created, and remedies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from mock_device.lab.base import namespaces
from mock_device.lab.base.namespaces import explain, forbidden, unshare

ALLOWED = {
    "user.max_user_namespaces": "96365",
    "user.max_net_namespaces": "96365",
    "kernel.unprivileged_userns_clone": "1",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}


@pytest.mark.parametrize(
    ("settings", "found", "remedy"),
    [
        ({"user.max_user_namespaces": "0"}, "user.max_user_namespaces = 0", "user.max_user_namespaces=10000"),
        ({"user.max_net_namespaces": "0"}, "user.max_net_namespaces = 0", "user.max_net_namespaces=10000"),
        (
            {"kernel.unprivileged_userns_clone": "0"},
            "kernel.unprivileged_userns_clone = 0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            "kernel.apparmor_restrict_unprivileged_userns = 1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_forbidding_setting_is_named_with_the_value_that_helps(
    settings: Mapping[str, str], found: str, remedy: str
) -> None:
    said = explain(
        {**ALLOWED, **settings}, "unshare: write failed /proc/self/uid_map: Operation not permitted", root=False
    )
    assert said.found == found
    assert said.remedy.startswith(f"as root: sysctl -w {remedy} ")


def test_all_forbidding_settings_are_named_at_once() -> None:
    settings = {"user.max_user_namespaces": "0", "kernel.apparmor_restrict_unprivileged_userns": "1"}
    said = explain(settings, "", root=False)
    assert said.found == "user.max_user_namespaces = 0, kernel.apparmor_restrict_unprivileged_userns = 1"
    assert "user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0" in said.remedy


def test_settings_for_ordinary_users_are_not_named_to_root() -> None:
    said = explain({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "unshare: not permitted\n", root=True)
    assert said.found == "unshare: not permitted"
    assert "container" in said.remedy


def test_error_of_the_trial_is_shown_if_no_setting_forbids() -> None:
    said = explain(ALLOWED, "one\nunshare: unshare failed: Operation not permitted\n", root=False)
    assert said.found == "unshare: unshare failed: Operation not permitted"
    assert said.remedy.startswith("become root")


def test_result_of_the_trial_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the trial works, the settings do not matter."""
    monkeypatch.setattr(namespaces, "_settings", lambda: {"user.max_user_namespaces": "0"})
    monkeypatch.setattr(namespaces, "unshare", lambda: ["true"])
    assert forbidden() is None
    monkeypatch.setattr(namespaces, "unshare", lambda: ["false"])
    said = forbidden()
    assert said is not None
    assert said.found == "user.max_user_namespaces = 0"
    monkeypatch.setattr(namespaces, "unshare", lambda: ["/nonexistent/unshare"])
    assert forbidden() is not None


@pytest.mark.parametrize(("uid", "expected"), [(0, False), (1000, True)])
def test_ordinary_user_is_root_in_a_user_namespace(monkeypatch: pytest.MonkeyPatch, uid: int, expected: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert ("--map-root-user" in unshare()) == expected


def test_limit_of_this_kernel_is_found() -> None:
    """Runs in a user namespace, which has its own limits."""
    if forbidden():
        pytest.skip("no namespaces are to be had here")
    code = (
        "from pathlib import Path; from mock_device.lab.base.namespaces import forbidden; "
        "Path('/proc/sys/user/max_net_namespaces').write_text('0'); print(forbidden().found)"
    )
    run = subprocess.run(
        [*unshare(), *(["--user", "--map-root-user"] if "--user" not in unshare() else []), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.stdout.strip() == "user.max_net_namespaces = 0", run.stderr
