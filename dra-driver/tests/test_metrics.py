"""Metrics of the node agent in Prometheus' format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mock_accel_dra.durations import BOUNDS, Durations
from mock_accel_dra.figures import Figures
from mock_accel_dra.metrics import AgentMetrics
from prometheus_client.parser import text_string_to_metric_families


class Agent:
    """An agent with some recorded activity."""

    def __init__(self, state_file: Path) -> None:
        self.claim_durations = Durations(("operation", "result"))
        self.scan_durations = Durations()
        self.start_seconds: float | None = None
        self.api_errors = 2
        self.state_file = state_file

    def device_figures(self) -> Mapping[str, Figures]:
        old = Figures({}, {})
        return {"mock0": Figures({"jobs": 7, "jobs_failed": 1, "bytes": 4096}, {"temperature": 41.5}), "mock1": old}

    def device_problems(self) -> Mapping[str, str]:
        return {"mock1": "FatalError"}

    def device_resets(self) -> Mapping[tuple[str, str], int]:
        return {("mock1", "error"): 2}

    def devices_by_state(self) -> Mapping[str, int]:
        return {"free": 5, "allocated": 1}

    def devices_left_out(self) -> Mapping[str, str]:
        return {"mock0": 'too "long"'}

    def fields_changed(self) -> Sequence[tuple[str, str]]:
        return [("slice-0", "spec.devices[0].taints"), ("slice-0", "spec.sharedCounters")]


def samples(agent: Agent) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(AgentMetrics(agent).text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_durations_are_cumulative_histograms(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "state.json")
    for seconds in (0.004, 0.005, 0.3, 60):
        agent.claim_durations.observe(seconds, "prepare", "ok")
    found = samples(agent)

    def bucket(bound: str) -> float:
        labels = (("le", bound), ("operation", "prepare"), ("result", "ok"))
        return found["mock_accel_claim_duration_seconds_bucket", labels]

    assert [bucket(str(bound)) for bound in (0.0025, 0.005, 0.25, 0.5, 10.0)] == [0, 2, 2, 3, 3]
    assert bucket("+Inf") == 4
    labels = (("operation", "prepare"), ("result", "ok"))
    assert found["mock_accel_claim_duration_seconds_count", labels] == 4
    assert found["mock_accel_claim_duration_seconds_sum", labels] == 60.309


def test_histogram_without_labels(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "state.json")
    agent.scan_durations.observe(BOUNDS[-1] + 1)
    found = samples(agent)
    assert found["mock_accel_scan_duration_seconds_bucket", (("le", str(BOUNDS[-1])),)] == 0
    assert found["mock_accel_scan_duration_seconds_count", ()] == 1


def test_devices_errors_and_checkpoint(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "state.json")
    found = samples(agent)
    assert found["mock_accel_devices", (("state", "free"),)] == 5
    assert found["mock_accel_devices", (("state", "allocated"),)] == 1
    assert found["mock_accel_api_errors_total", ()] == 2
    assert ("mock_accel_checkpoint_age_seconds", ()) not in found
    assert ("mock_accel_start_seconds", ()) not in found
    agent.state_file.touch()
    agent.start_seconds = 1.5
    assert samples(agent)["mock_accel_start_seconds", ()] == 1.5
    assert 0 <= samples(agent)["mock_accel_checkpoint_age_seconds", ()] < 60


def test_devices_left_out_and_fields_changed(tmp_path: Path) -> None:
    found = samples(Agent(tmp_path / "state.json"))
    assert found["mock_accel_devices_left_out", (("device", "mock0"), ("reason", 'too "long"'))] == 1
    fields = {
        dict(labels)["field"] for (name, labels), value in found.items() if name == "mock_accel_slice_fields_changed"
    }
    assert fields == {"spec.devices[0].taints", "spec.sharedCounters"}


def test_figures_of_devices(tmp_path: Path) -> None:
    found = samples(Agent(tmp_path / "state.json"))
    mock0 = (("device", "mock0"),)
    assert found["mock_accel_device_jobs_total", mock0] == 7
    assert found["mock_accel_device_jobs_failed_total", mock0] == 1
    assert found["mock_accel_device_bytes_total", mock0] == 4096
    assert found["mock_accel_device_temperature_celsius", mock0] == 41.5
    assert found["mock_accel_device_unhealthy", (("device", "mock1"), ("problem", "FatalError"))] == 1
    assert found["mock_accel_device_resets_total", (("device", "mock1"), ("result", "error"))] == 2
    names = {name for name, labels in found if ("device", "mock1") in labels}
    assert names == {"mock_accel_device_unhealthy", "mock_accel_device_resets_total"}
