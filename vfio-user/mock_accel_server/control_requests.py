"""Requests of the control socket: ``vfio-user/README.md``, section "Faults on demand"."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mock_accel_server.device import USUAL_TEMPERATURE, Device
from mock_accel_server.faults import LEAST_CELSIUS, MOST_CELSIUS, MOST_MILLISECONDS, Fault
from mock_accel_server.registers import Event, Reg, RingError, State

_SHOWN_CHARACTERS = 100
_COUNTERS = {"jobs": Reg.JOBS, "jobsFailed": Reg.JOBS_FAILED, "bytes": Reg.BYTES}

Request = Mapping[str, Any]


class RequestError(Exception):
    """A request that cannot be executed: expected, found."""


class Requests:
    """Executes requests on devices. Never waits for a client."""

    def __init__(self, devices: Iterable[Device], die: Callable[[str], None], revive: Callable[[str], None]) -> None:
        """``die`` and ``revive`` get a device's name: end its connection and its socket, and listen again."""
        self._devices = {device.identity.name: device for device in devices}
        self._die = die
        self._revive = revive
        self._dead: set[str] = set()

    def answer(self, line: bytes) -> bytes:
        """The answer to a line; an object with ``error`` if it is refused."""
        try:
            return json.dumps(self._execute(_parse(line))).encode()
        except RequestError as error:
            return json.dumps({"error": str(error)}).encode()

    def _execute(self, request: Request) -> dict[str, Any]:
        kinds = [kind for kind in ("list", "show", "fault") if kind in request]
        if len(kinds) != 1:
            raise RequestError(f"expected one of 'list', 'show' and 'fault', found {_shown(sorted(request))}")
        if kinds == ["list"]:
            _expect_keys(request, {"list"})
            _expect_true(request, "list")
            return {"devices": [_summary(device) for device in self._devices.values()]}
        device = self._device(request)
        if kinds == ["show"]:
            _expect_keys(request, {"device", "show"})
            _expect_true(request, "show")
            return self._show(device)
        self._inject(device, request)
        return {"ok": True}

    def _device(self, request: Request) -> Device:
        name = request.get("device")
        device = self._devices.get(name) if isinstance(name, str) else None
        if device is None:
            raise RequestError(f"expected a device of {', '.join(self._devices)}, found {_shown(name)}")
        return device

    def _inject(self, device: Device, request: Request) -> None:
        name = device.identity.name
        try:
            fault = Fault(request["fault"])
        except ValueError:
            names = ", ".join(one.value for one in Fault)
            raise RequestError(f"expected a fault of {names}, found {_shown(request['fault'])}") from None
        arguments = {Fault.SLOW: {"milliseconds"}, Fault.WRONG_ID: {"on"}, Fault.TEMPERATURE: {"celsius"}}
        _expect_keys(request, {"device", "fault"} | arguments.get(fault, set()))
        if fault is Fault.DIE:
            self._dead.add(name)
            self._die(name)
            return
        if fault is Fault.CLEAR and name in self._dead:
            self._dead.discard(name)
            self._revive(name)
        with device.lock:
            _apply(device, fault, request)

    def _show(self, device: Device) -> dict[str, Any]:
        registers = device.registers
        faults = device.jobs.faults
        with device.lock:
            return {
                **_summary(device),
                "connected": device.connected,
                "faults": {
                    Fault.HANG_NEXT_JOB.value: faults.hang_next,
                    "hanging": faults.hanging,
                    Fault.WRONG_RESULT.value: faults.wrong_next,
                    Fault.SLOW.value: faults.slow_milliseconds,
                    Fault.WRONG_ID.value: registers.get(Reg.ID) != registers.right_id,
                    Fault.DIE.value: device.identity.name in self._dead,
                },
                "celsius": registers.signed(Reg.TEMPERATURE) / 1000,
                "status": registers.get(Reg.STATUS),
                "state": [bit.name for bit in State(registers.get(Reg.STATE))],
                "ringError": RingError(registers.get(Reg.ERROR)).name,
                "events": [bit.name for bit in Event(registers.get(Reg.EVENTS))],
                "firmware": registers.get(Reg.FIRMWARE_VERSION),
                **{name: registers.get(register) for name, register in _COUNTERS.items()},
            }


def _apply(device: Device, fault: Fault, request: Request) -> None:
    """A fault of the device itself; needs its lock."""
    match fault:
        case Fault.HANG_NEXT_JOB:
            device.jobs.faults.hang_next = True
        case Fault.WRONG_RESULT:
            device.jobs.faults.wrong_next = True
        case Fault.SLOW:
            device.jobs.faults.slow_milliseconds = int(_number(request, "milliseconds", 0, MOST_MILLISECONDS, int))
        case Fault.AER_CORRECTABLE:
            device.report_correctable()
        case Fault.AER_FATAL:
            device.report_fatal()
        case Fault.ERR_INTERRUPT:
            device.signal_error()
        case Fault.WRONG_ID:
            on = request.get("on", True)
            if not isinstance(on, bool):
                raise RequestError(f"expected 'on' true or false, found {_shown(on)}")
            device.set_wrong_id(on)
        case Fault.TEMPERATURE:
            device.set_temperature(round(_number(request, "celsius", LEAST_CELSIUS, MOST_CELSIUS, int | float) * 1000))
        case Fault.CLEAR:
            device.jobs.clear_faults()
            device.set_wrong_id(False)
            device.set_temperature(USUAL_TEMPERATURE)


def _parse(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"expected a JSON object in one line, found {_shown(line)}: {error}") from error
    if not isinstance(request, dict):
        raise RequestError(f"expected a JSON object in one line, found {_shown(request)}")
    return request


def _expect_keys(request: Request, allowed: set[str]) -> None:
    if unknown := sorted(set(request) - allowed):
        raise RequestError(f"expected the keys {', '.join(sorted(allowed))}, found {_shown(unknown[0])}")


def _expect_true(request: Request, key: str) -> None:
    if request[key] is not True:
        raise RequestError(f"expected {key!r} true, found {_shown(request[key])}")


def _number(request: Request, key: str, low: int, high: int, kind: Any) -> float:
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise RequestError(f"expected {key!r} from {low} to {high}, found {_shown(value)}")
    return float(value)


def _summary(device: Device) -> dict[str, Any]:
    return {"name": device.identity.name, "uuid": device.identity.uuid, "vf": device.identity.is_vf}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
