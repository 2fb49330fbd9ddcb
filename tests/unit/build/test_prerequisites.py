"""All missing prerequisites are reported at once."""

from __future__ import annotations

import pytest

from mock_device.lab.base import namespaces
from mock_device.lab.base.errors import StepError
from mock_device.lab.base.namespaces import Forbidden
from mock_device.lab.build import prerequisites


def test_all_missing_prerequisites_are_named_with_their_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_which", lambda command: None)
    monkeypatch.setattr(prerequisites, "_go_version", lambda: (1, 19))
    with pytest.raises(StepError) as error:
        prerequisites.check()
    message = str(error.value)
    assert "Go 1.26 or newer (found 1.19): builds Kubernetes and containerd; install it from" in message
    for tool in prerequisites.TOOLS:
        assert f"{tool.command}: {tool.purpose}; apt-get install {tool.package}" in message


def test_packages_go_to_standard_output_and_the_rest_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prerequisites, "_which", lambda command: None if command == "buildah" else command)
    monkeypatch.setattr(prerequisites, "_go_version", lambda: None)
    assert prerequisites.main([]) == 1
    output = capsys.readouterr()
    assert "buildah" in output.out.splitlines()
    assert "found none" in output.err


def test_forbidden_namespaces_are_named_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = Forbidden("user.max_user_namespaces = 0", "as root: sysctl -w user.max_user_namespaces=10000")
    monkeypatch.setattr(namespaces, "forbidden", lambda: forbidden)
    with pytest.raises(StepError) as error:
        prerequisites.check()
    assert "namespaces for this user (user.max_user_namespaces = 0): " in str(error.value)
    assert "; as root: sysctl -w user.max_user_namespaces=10000" in str(error.value)


def test_this_machine_meets_all_prerequisites() -> None:
    """``make test`` has installed the prerequisites."""
    assert prerequisites.missing() == []
