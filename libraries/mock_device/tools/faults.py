"""``lab fault``: faults on demand of a device, caused by the control socket of its node's device server.

Requests and answers: ``vfio-user/README.md``, section "Faults on demand".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mock_accel_server.faults import LEAST_CELSIUS, MOST_CELSIUS, MOST_MILLISECONDS, Fault

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.session import Session
from mock_device.lab.base.tables import Table
from mock_device.lab.cluster.cluster import Capability
from mock_device.tools.devices import STATUS
from mock_device.topology import DeviceId, Function, Topology

_HEADINGS = (
    "node",
    "device",
    "faults",
    "connected",
    "status",
    "state",
    "ring error",
    "events",
    "celsius",
    "firmware",
    "jobs",
    "failed",
    "bytes",
)
_SLOW = Fault.SLOW.value
_NO_ERROR = "NONE"
NO_ARGUMENTS: Mapping[str, float | bool] = MappingProxyType({})


@dataclass(frozen=True)
class FaultKind:
    """A fault that a device can be told to have."""

    fault: Fault
    option: str
    """Option of ``lab fault`` that it needs, or takes (in brackets); empty for none."""
    effect: str


KINDS = (
    FaultKind(Fault.HANG_NEXT_JOB, "", "the next job does not end, until a reset or --clear"),
    FaultKind(Fault.WRONG_RESULT, "", "the first byte of the next job's result is inverted; its status is DONE"),
    FaultKind(Fault.SLOW, "--milliseconds N", f"every job takes N ms longer, 0 to {MOST_MILLISECONDS}; 0 ends it"),
    FaultKind(Fault.AER_CORRECTABLE, "", "the device reports a correctable error by PCI Express AER"),
    FaultKind(Fault.AER_FATAL, "", "the device reports a fatal error, and runs no job until a reset"),
    FaultKind(Fault.ERR_INTERRUPT, "", "vfio's ERR interrupt: QEMU stops the guest, and the cluster has failed"),
    FaultKind(Fault.WRONG_ID, "[--off]", "register ID reads 0xdeadbeef; --off ends it"),
    FaultKind(
        Fault.TEMPERATURE,
        "--celsius N",
        f"the temperature is N, {LEAST_CELSIUS} to {MOST_CELSIUS}; the device is hot over 95",
    ),
    FaultKind(Fault.DIE, "", "the device does not answer; after --clear its slot must be unplugged and plugged"),
)
"""All faults but ``clear``, which ends the others."""


@dataclass(frozen=True)
class DeviceState:
    """A device as its server knows it, whether the guest can reach it or not."""

    node: str
    device: str
    """Name in sysfs."""
    uuid: str
    faults: tuple[str, ...]
    """Names of the faults that are on; ``slow 50 ms`` with its time, ``hanging`` while a job hangs."""
    connected: bool
    """Whether QEMU is connected to the device."""
    status: str
    """``free`` or ``allocated``."""
    state: tuple[str, ...]
    """Names of the bits of register STATE, such as ``RUNNING`` and ``FATAL``."""
    ring_error: str
    """Why the ring stopped; empty if it has not."""
    events: tuple[str, ...]
    """Names of the bits of register EVENTS, which the driver has not cleared yet."""
    celsius: float
    firmware: str
    """Version, such as ``1.0``; empty without firmware."""
    jobs: int
    jobs_failed: int
    bytes: int

    @property
    def id(self) -> DeviceId:
        return DeviceId(self.node, self.device)


def arguments_of(
    fault: Fault, *, milliseconds: int | None = None, celsius: float | None = None, off: bool = False
) -> dict[str, float | bool]:
    """Arguments of the request for ``fault``. Raises ValueError for a missing one, and one that it does not take."""
    given: dict[str, float | bool | None] = {"milliseconds": milliseconds, "celsius": celsius, "off": off or None}
    needed = {Fault.SLOW: "milliseconds", Fault.TEMPERATURE: "celsius"}.get(fault)
    allowed = {needed, "off" if fault is Fault.WRONG_ID else None}
    if needed and given[needed] is None:
        raise ValueError(f"fault {fault.value}: expected --{needed} with a number, found none")
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise ValueError(f"fault {fault.value}: expected no --{name}, found it")
    if fault is Fault.WRONG_ID:
        return {"on": not off}
    return {name: value for name, value in given.items() if value is not None}


def inject(
    session: Session, node: str, device: str, fault: Fault, arguments: Mapping[str, float | bool] = NO_ARGUMENTS
) -> DeviceState:
    """Cause ``fault`` with ``arguments`` as of ``arguments_of``, and return the device's state after it.

    Raises KeyError for an unknown node and CheckError for an unknown device, each with the known ones; StepError if
    the server refuses or does not answer.
    """
    name = _function(session.topology, node, device).name
    _ask(session, node, {"device": name, "fault": fault.value, **arguments})
    return show(session, node, name)


def clear(session: Session, node: str, device: str) -> DeviceState:
    """End all faults of ``device``, and return its state after that. Raises as ``inject``."""
    return inject(session, node, device, Fault.CLEAR)


def show(session: Session, node: str, device: str) -> DeviceState:
    """State of ``device``. Raises as ``inject``."""
    name = _function(session.topology, node, device).name
    return parse(node, _ask(session, node, {"device": name, "show": True}))


def _ask(session: Session, node: str, request: Mapping[str, Any]) -> dict[str, Any]:
    session.cluster.check_offers({Capability.DEVICE_SERVER})
    return session.cluster.guests.ask_device_server(node, request)


def _function(topology: Topology, node: str, device: str) -> Function:
    """The function of ``node`` that is named ``device`` in sysfs or as published, whether it is enabled or not."""
    by_name = {function.name: function for function in topology.node(node).functions}
    try:
        return by_name[device.replace("-", "_")]
    except KeyError:
        raise CheckError(f"no device {device!r} on {node}; available: {', '.join(by_name) or 'none'}") from None


def parse(node: str, answer: Mapping[str, Any]) -> DeviceState:
    """State of a device of ``node`` from the server's answer. Raises CheckError if a field is missing."""
    try:
        version = answer["firmware"]
        return DeviceState(
            node=node,
            device=answer["name"],
            uuid=answer["uuid"],
            faults=tuple(_faults(answer["faults"])),
            connected=answer["connected"],
            status=STATUS.get(answer["status"], str(answer["status"])),
            state=tuple(answer["state"]),
            ring_error="" if answer["ringError"] == _NO_ERROR else answer["ringError"],
            events=tuple(answer["events"]),
            celsius=answer["celsius"],
            firmware=f"{version >> 16}.{version & 0xFFFF}" if version else "",
            jobs=answer["jobs"],
            jobs_failed=answer["jobsFailed"],
            bytes=answer["bytes"],
        )
    except (KeyError, TypeError) as error:
        raise CheckError(f"{node}: expected the state of a device, found {str(answer)[:200]} ({error!r})") from error


def complaints(state: DeviceState, expected: Sequence[str]) -> list[str]:
    """Whether other faults of a device are on than ``expected``."""
    if sorted(state.faults) == sorted(expected):
        return []
    return [f"{state.id}: expected faults {', '.join(expected) or 'none'}, found {', '.join(state.faults) or 'none'}"]


def _faults(found: Mapping[str, bool | int]) -> Iterable[str]:
    for name, value in found.items():
        if value:
            yield f"{name} {value} ms" if name == _SLOW else name


def table(states: Iterable[DeviceState]) -> Table:
    """One row per device."""
    rows = [
        (
            one.node,
            one.device,
            ", ".join(one.faults) or "-",
            "yes" if one.connected else "no",
            one.status,
            ", ".join(one.state) or "-",
            one.ring_error or "-",
            ", ".join(one.events) or "-",
            f"{one.celsius:g}",
            one.firmware or "-",
            str(one.jobs),
            str(one.jobs_failed),
            str(one.bytes),
        )
        for one in states
    ]
    return Table(_HEADINGS, rows, right=("celsius", "jobs", "failed", "bytes"))


def table_of_kinds(kinds: Iterable[FaultKind]) -> Table:
    """One row per fault."""
    rows = [(kind.fault.value, kind.option or "-", kind.effect) for kind in kinds]
    return Table(("fault", "option", "what happens"), rows, wraps=("what happens",))
