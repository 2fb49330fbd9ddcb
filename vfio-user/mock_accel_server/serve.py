"""Serves the devices of a plan; started by ``cli``."""

from __future__ import annotations

import ctypes
import logging
import resource
import signal
import sys
from contextlib import ExitStack

from mock_accel_server import control
from mock_accel_server.closing import allow_interrupts
from mock_accel_server.control_requests import Requests
from mock_accel_server.device import Device
from mock_accel_server.listener import ListenError
from mock_accel_server.plan import Plan
from mock_accel_server.server import Server, share_evenly

_M_ARENA_MAX = -8  # malloc.h


def _allow_many_fds() -> None:
    """Raise the limit of open files: each client has a connection and may send file descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _share_heap() -> None:
    """Let all threads allocate from one heap, mallopt(3): with one each, the memory of ended jobs would stay there."""
    ctypes.CDLL(None).mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(1))


def serve(plan: Plan) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is described in ``--help``."""
    level = logging.DEBUG if plan.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    _allow_many_fds()
    _share_heap()
    allow_interrupts()
    share_evenly()
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: stop.append(caught))
    devices = [(path, Device(identity, plan.secret)) for path, identity in plan.devices]
    with ExitStack() as stack:
        try:
            server = Server(devices)
            stack.callback(server.close)
            if plan.control:
                requests = Requests([device for _, device in devices], server.die, server.revive)
                stack.callback(control.ControlServer(plan.control, requests.answer).close)
        except ListenError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        stack.callback(signal.set_wakeup_fd, -1)
        signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False)
        if not stop:
            print(f"ready\t{len(devices)}\t{plan.where}", flush=True)
            server.run()
    return 0


def main(argv: list[str]) -> int:
    """Serve the plan in the file descriptor that ``cli`` passes; the options after it are for those who read ``ps``."""
    if not argv or not argv[0].isdecimal():
        print("error: started by python -m mock_accel_server; see its --help", file=sys.stderr)
        return 2
    return serve(Plan.received(int(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
