"""The record of prepared claims, with every kind of damage to its file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mock_accel_dra import state
from mock_accel_dra.identity import Identity
from mock_accel_dra.state import LockedError, PreparedClaim, PreparedDevice, State

DEVICES = (
    PreparedDevice("mock1", identity=Identity("NODE1-NUMA0-PF2", "0000:12:00.0")),
    PreparedDevice("mock2", admin=True),
)
CLAIM = PreparedClaim("uid-1", "default", "one", DEVICES, "2026-11-27T10:00:00Z", "2026-11-27T09:59:58Z")
OTHER = PreparedClaim("uid-2", "default", "two", (PreparedDevice("mock3"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_write_and_read(path: Path) -> None:
    State.load(path, "boot-1").put(CLAIM)
    again = State.load(path, "boot-1")
    assert again.claims() == [CLAIM]
    assert again.prepared() == {"mock1", "mock2"}
    assert not again.lost
    again.forget(CLAIM.uid)
    assert State.load(path, "boot-1").claims() == []


def test_a_reboot_forgets_prepared_claims(path: Path, log: io.StringIO) -> None:
    State.load(path, "boot-1").put(CLAIM)
    again = State.load(path, "boot-2")
    assert again.claims() == []
    assert again.prepared() == set()
    assert not again.lost
    assert '"Node has rebooted: prepared claims are forgotten"' in log.getvalue()


def test_a_reboot_does_not_forget_which_devices_a_claim_had(path: Path) -> None:
    State.load(path, "boot-1").put(CLAIM)
    again = State.load(path, "boot-2")
    assert (again.get(CLAIM.uid), again.remembered(CLAIM.uid)) == (None, CLAIM)
    again.put(OTHER)
    again = State.load(path, "boot-3")
    assert {claim.uid: claim for claim in again.earlier()} == {CLAIM.uid: CLAIM, OTHER.uid: OTHER}
    again.put(CLAIM)
    again.withdraw(CLAIM.uid)  # as after a failed prepare
    assert (again.get(CLAIM.uid), again.remembered(CLAIM.uid)) == (None, CLAIM)
    again.forget(CLAIM.uid)
    again = State.load(path, "boot-3")
    assert (again.claims(), again.earlier()) == ([], [OTHER])


def test_version_2_without_identities_is_read(path: Path) -> None:
    devices = [{"name": "mock3", "admin": False}]
    claims = {"uid-2": {"namespace": "default", "name": "two", "devices": devices}}
    path.write_text(json.dumps({"version": 2, "bootID": "boot-1", "lost": False, "claims": claims}))
    assert State.load(path, "boot-1").claims() == [OTHER]


def test_version_1_is_read_and_written_as_version_2(path: Path) -> None:
    devices = [{"name": "mock3", "admin": False}]
    claims = {"uid-2": {"namespace": "default", "name": "two", "devices": devices}}
    path.write_text(json.dumps({"version": 1, "claims": claims}))
    upgraded = State.load(path, "boot-1")
    assert upgraded.claims() == [OTHER]
    upgraded.put(CLAIM)
    content = json.loads(path.read_text())
    assert (content["version"], content["bootID"], set(content["claims"])) == (2, "boot-1", {"uid-1", "uid-2"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"version": 2, "claims": {"u": {}}}',
        '{"version": 99, "claims": {}}',
        '{"version": 1}',
        "[]",
        "\x00" * 512,
    ],
)
def test_an_unusable_file_is_kept_and_the_record_is_lost(path: Path, log: io.StringIO, text: str) -> None:
    path.write_text(text)
    found = State.load(path, "boot-1")
    assert found.lost
    assert found.claims() == []
    assert path.with_name("state.json.bad").read_text() == text
    assert '"State file is not usable; rebuilding it"' in log.getvalue()


def test_every_agent_sees_the_loss_until_one_has_rebuilt_the_record(path: Path) -> None:
    first, second = State.load(path, "boot-1"), State.load(path, "boot-1")
    path.write_text('{"version": 99, "claims": {}}')
    with first.locked():
        first.put(OTHER)
    with second.locked():
        assert second.lost
        assert second.claims() == [OTHER]
    assert State.load(path, "boot-1").lost
    with second.locked():
        second.put(CLAIM)
        second.rebuilt()
    with first.locked():
        assert not first.lost
    assert not State.load(path, "boot-1").lost


def test_two_agents_see_each_others_writes(path: Path) -> None:
    first, second = State.load(path), State.load(path)
    with first.locked():
        first.put(CLAIM)
    with second.locked():
        assert second.claims() == [CLAIM]
        second.put(OTHER)
    with first.locked():
        assert first.claims() == [CLAIM, OTHER]


def test_waiting_for_the_lock_times_out_with_a_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_LOCK_SECONDS", 0.2)
    holder = State.load(path)
    message = r"another driver on this node has held .*state.json.lock"
    with holder.locked(), pytest.raises(LockedError, match=message), State.load(path).locked():
        pass
    with State.load(path).locked():
        pass


def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from mock_accel_dra.state import State\n"
        "with State.load(Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        process.kill()
        process.wait(10)
        with State.load(path).locked():
            pass
    finally:
        process.kill()
        process.communicate()


def test_threads_take_turns(path: Path) -> None:
    shared, order = State.load(path), []
    inside = threading.Event()

    def late() -> None:
        inside.wait(5)
        with shared.locked():
            order.append("late")

    thread = threading.Thread(target=late)
    thread.start()
    with shared.locked():
        inside.set()
        threading.Event().wait(0.1)
        order.append("early")
    thread.join(5)
    assert order == ["early", "late"]
