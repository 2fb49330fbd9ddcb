"""Other threads post functions to the loop's thread."""

from __future__ import annotations

import select
import threading

from mock_accel_server.calls import Calls


def is_readable(calls: Calls) -> bool:
    return bool(select.select([calls.fd], [], [], 0)[0])


def test_posted_calls_run_in_order_in_the_loops_thread() -> None:
    calls = Calls()
    ran: list[tuple[int, int]] = []

    def post() -> None:
        for number in range(100):
            calls.post(lambda number=number: ran.append((number, threading.get_ident())))  # type: ignore[misc]

    thread = threading.Thread(target=post)
    thread.start()
    thread.join()
    assert is_readable(calls)
    assert not ran
    calls.run()
    assert ran == [(number, threading.get_ident()) for number in range(100)]
    assert not is_readable(calls)
    calls.close()


def test_wake_runs_nothing() -> None:
    calls = Calls()
    calls.wake()
    assert is_readable(calls)
    calls.run()
    assert not is_readable(calls)
    calls.close()


def test_posting_after_close_is_harmless() -> None:
    calls = Calls()
    calls.close()
    calls.post(lambda: None)
