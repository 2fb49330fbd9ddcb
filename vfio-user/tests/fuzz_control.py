"""Random requests for the control socket."""

from __future__ import annotations

import json
import random

from mock_accel_server.faults import Fault

_KEYS = ("device", "fault", "show", "list", "milliseconds", "celsius", "on", "", "x")


def random_line(source: random.Random, device: str) -> bytes:
    """A line for ``device``: valid, with a changed key or value, or noise."""
    kind = source.random()
    request: dict[str, object] = {"device": device}
    if kind < 0.2:
        request = source.choice([{"list": True}, {"device": device, "show": True}])
    else:
        fault = source.choice(list(Fault))
        request["fault"] = fault.value
        if fault is Fault.SLOW:
            request["milliseconds"] = source.randrange(20)
        elif fault is Fault.TEMPERATURE:
            request["celsius"] = source.randrange(-300, 200)
        elif fault is Fault.WRONG_ID:
            request["on"] = source.choice([True, False])
    if kind > 0.6:
        request[source.choice(_KEYS)] = source.choice(
            [None, True, -1, 0, 1.5, 1e300, 10**40, "", "x" * source.randrange(5000), [], {}, [[1]], float("nan")]
        )
    line = json.dumps(request).encode()
    if kind > 0.8:
        changed = bytearray(line)
        for _ in range(source.randrange(1, 5)):
            changed[source.randrange(len(changed))] = source.getrandbits(8)
        line = bytes(changed)
    if kind > 0.95:
        line = source.choice([b"[" * 5000, b'{"a":' * 3000, b"\n" * 100, source.randbytes(300), b"9" * 4096])
    return line + b"\n"
