"""Timers run in order, and their cost does not depend on their number."""

from __future__ import annotations

import threading
import time

from mock_accel_server.timers import Timers

SOON = 0.01
LATE = 1000.0


def run_until_quiet(timers: Timers) -> None:
    while (timeout := timers.timeout()) is not None:
        time.sleep(timeout)
        timers.run_due()


def test_each_timer_runs_once_in_order_of_time() -> None:
    timers = Timers()
    ran: list[str] = []
    late = timers.timer(3 * SOON, lambda: ran.append("late"))
    early = timers.timer(SOON, lambda: ran.append("early"))
    timers.timer(SOON, lambda: ran.append("never started"))
    late.start()
    early.start()
    assert early.running and late.running
    run_until_quiet(timers)
    assert ran == ["early", "late"]
    assert not early.running and not late.running


def test_stop_and_restart() -> None:
    timers = Timers()
    ran: list[str] = []
    stopped = timers.timer(SOON, lambda: ran.append("stopped"))
    again = timers.timer(SOON, lambda: ran.append("again"))
    for timer in (stopped, again):
        timer.start()
        timer.stop()
    assert timers.timeout() is None
    again.start()
    again.start()
    run_until_quiet(timers)
    assert ran == ["again"]


def test_restart_counts_from_now() -> None:
    timers = Timers()
    timer = timers.timer(0.05, lambda: None)
    timer.start()
    time.sleep(0.03)
    timer.start()
    timeout = timers.timeout()
    assert timeout is not None and timeout > 0.03


def test_action_may_restart_its_timer() -> None:
    timers = Timers()
    ran: list[int] = []

    def action() -> None:
        ran.append(1)
        if len(ran) < 3:
            timer.start()

    timer = timers.timer(SOON, action)
    timer.start()
    run_until_quiet(timers)
    assert len(ran) == 3


def test_restarts_do_not_fill_the_heap() -> None:
    timers = Timers()
    timer = timers.timer(LATE, lambda: None)
    for _ in range(10_000):
        timer.start()
        timer.stop()
    assert len(timers._heap) == 1


def test_loop_is_woken_for_an_earlier_timer_only() -> None:
    woken: list[str] = []
    timers = Timers(lambda: woken.append("woken"))
    timers.timer(LATE, lambda: None).start()
    assert len(woken) == 1
    timers.timer(2 * LATE, lambda: None).start()
    assert len(woken) == 1
    early = timers.timer(SOON, lambda: None)
    early.start()
    assert len(woken) == 2
    early.start()
    assert len(woken) == 2, "its entry is in the heap already"


def test_any_thread_may_start_timers() -> None:
    timers = Timers()
    ran: list[int] = []

    def work() -> None:
        for _ in range(200):
            timers.timer(0.0, lambda: ran.append(1)).start()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10.0
    while len(ran) < 800:
        timers.run_due()
        assert time.monotonic() < deadline
    for thread in threads:
        thread.join()
    assert timers.timeout() is None


def test_cost_of_an_event_does_not_depend_on_the_number_of_timers() -> None:
    """Only the first timer is compared."""
    timers = Timers()
    looked_at = 0

    class Counting(float):
        def __eq__(self, other: object) -> bool:
            nonlocal looked_at
            looked_at += 1
            return float.__eq__(self, other)

        __hash__ = float.__hash__

    for _ in range(100):
        timer = timers.timer(LATE, lambda: None)
        timer.start()
        timer.due = Counting(timer.due)
    looked_at = 0
    timers.timeout()
    timers.run_due()
    assert looked_at <= 2
