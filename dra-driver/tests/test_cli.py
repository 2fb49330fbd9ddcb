"""Flags, environment variables, and messages about bad ones."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from mock_accel_dra.cli import main, parse
from mock_accel_dra.settings import AgentSettings, ControllerSettings


def test_defaults_are_the_standard_paths_of_kubernetes() -> None:
    settings, verbosity = parse(["node-agent"], {"NODE_NAME": "node1"})
    assert isinstance(settings, AgentSettings)
    assert verbosity == 2
    assert str(settings.service_socket) == "/var/lib/kubelet/plugins/mock-accel.example.com/dra.sock"
    assert str(settings.registration_socket) == "/var/lib/kubelet/plugins_registry/mock-accel.example.com-reg.sock"
    assert settings.rescan_interval == 30
    assert settings.kernel_events
    assert settings.cdi_root == Path("/var/run/cdi")


def test_a_flag_takes_precedence_over_a_variable() -> None:
    environment = {"NODE_NAME": "node1", "RESCAN_INTERVAL": "1m", "V": "5", "CDI_ROOT": "/cdi"}
    settings, verbosity = parse(["node-agent", "--rescan-interval", "500ms", "--v=6"], environment)
    assert isinstance(settings, AgentSettings)
    assert (settings.rescan_interval, settings.cdi_root, verbosity) == (0.5, Path("/cdi"), 6)


def test_kernel_events_can_be_disabled() -> None:
    settings, _ = parse(["node-agent"], {"NODE_NAME": "node1", "KERNEL_EVENTS": "false"})
    assert isinstance(settings, AgentSettings)
    assert not settings.kernel_events


@pytest.mark.parametrize(("text", "seconds"), [("2m", 120.0), ("never", float("inf"))])
def test_reset_after(text: str, seconds: float) -> None:
    settings, _ = parse(["node-agent", "--reset-after", text], {"NODE_NAME": "node1"})
    assert isinstance(settings, AgentSettings)
    assert settings.reset_after == seconds


def test_controller() -> None:
    assert parse(["controller", "--resync-interval=2m"], {}) == (ControllerSettings(resync_interval=120), 2)


@pytest.mark.parametrize(
    ("argv", "environment", "message"),
    [
        ([], {}, "required: {node-agent,controller}"),
        (["kubelet"], {}, "invalid choice: 'kubelet'"),
        (["node-agent"], {}, "expected --node-name or environment variable NODE_NAME"),
        (["node-agent", "--node-name", "Node_1"], {}, "argument --node-name: expected the name of a node"),
        (["controller", "--v", "9"], {}, "argument --v: expected a verbosity from 2 (state changes) to 6"),
        (["controller"], {"V": "loud"}, "environment variable V: expected a verbosity"),
        (["controller", "--resync-interval", "soon"], {}, "expected a time from 100ms to 24h, like 30s, found 'soon'"),
        (["controller", "--resync-interval", "0s"], {}, "expected a time from 100ms"),
        (
            ["node-agent", "--reset-after", "no"],
            {},
            "expected a time from 100ms to 24h, like 30s, or never, found 'no'",
        ),
        (["controller", "--health-port", "70000"], {}, "expected a TCP port from 0"),
        (["controller", "--api-server", "10.0.0.1"], {}, "expected an URL like https://"),
        (["node-agent", "--node-name=n", "--cdi-root=cdi"], {}, "argument --cdi-root: expected an absolute path"),
        (["controller", "--cdi-root=/cdi"], {}, "unrecognized arguments: --cdi-root=/cdi"),
        (["node-agent", "--node-name=n", "--kernel-events=no"], {}, "expected true or false, found 'no'"),
        (["node-agent", "--node=n"], {}, "unrecognized arguments: --node=n"),
    ],
)
def test_bad_usage_exits_2(
    argv: list[str], environment: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv, environment)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_outside_a_pod_the_message_names_the_missing_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("os.umask", lambda _: 0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        assert main(["controller"]) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert "not in a pod (KUBERNETES_SERVICE_HOST is not set): say --api-server URL" in capsys.readouterr().err
