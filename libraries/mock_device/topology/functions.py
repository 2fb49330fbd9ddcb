"""Reads the PCI functions of a slot: numbers, names, which VF belongs to which PF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mock_device.topology.model import CAPABILITIES, DEFAULT_WINDOW, Function
from mock_device.topology.reader import Reader
from mock_device.topology.size import WINDOWS, is_window
from mock_device.topology.yaml_lines import Fields

_FUNCTIONS = 8  # PCI Express Base Specification, 2.2.4.1: 3-bit function number


@dataclass(frozen=True)
class Place:
    """Position of a slot in its node."""

    bus: int
    device: int
    """PCI device number, 0 behind a root port."""
    numa_node: int
    first_pf: int
    """Number of the slot's first PF among all PFs of the node."""

    @property
    def address(self) -> str:
        """PCI address without the function, ``0000:11:00``."""
        return f"0000:{self.bus:02x}:{self.device:02x}"


def read_functions(
    reader: Reader, slot: Fields, what: str, place: Place, uuids: dict[str, int]
) -> tuple[Function, ...]:
    """Functions of ``slot``: each PF is followed by its VFs; a number is the next one unless ``function`` gives it.

    ``uuids`` are those of the file so far, with their lines.
    """
    items = reader.items(slot, "functions", what)
    what = f"{what} bus {place.bus:#x}"
    numbers: dict[str, int] = {}
    functions: list[Function] = []
    for position, item in enumerate(items):
        fields = reader.fields(item, slot.lines["functions"], what, "function")
        is_vf = fields.get("vf", False)
        if not isinstance(is_vf, bool):
            reader.fail(fields.lines["vf"], f"{what}: vf must be true or false, found {is_vf!r}")
        pfs = [function for function in functions if not function.is_vf]
        number = _number(reader, fields, what, place.bus, functions, numbers, is_vf)
        if is_vf:
            parent = pfs[-1].name
            if "window" in fields:
                reader.fail(fields.lines["window"], f"{what}: window is a key of a PF; its VFs have the same window")
            name = f"{parent}_vf{sum(function.parent == parent for function in functions)}"
        else:
            parent, name = None, f"mock{place.first_pf + len(pfs)}"
        functions.append(
            Function(
                name=name,
                uuid=_uuid(reader, fields, what, name, uuids),
                bdf=f"{place.address}.{number}",
                device=place.device,
                function=number,
                numa_node=place.numa_node,
                memory=reader.size(fields, "memory", name),
                capabilities=_capabilities(reader, fields, name),
                is_vf=is_vf,
                total_vfs=0 if is_vf else _leading_vfs(items[position + 1 :]),
                parent=parent,
                multifunction=len(items) > 1,
                root_port=f"rp{place.bus:02x}",
                window=pfs[-1].window if is_vf else _window(reader, fields, name),
            )
        )
    if functions[0].function != 0:
        reader.fail(
            slot.lines["functions"], f"{what}: function 0 is missing; a slot without it is not seen by the guest"
        )
    return tuple(functions)


def _number(
    reader: Reader,
    fields: Fields,
    what: str,
    bus: int,
    before: list[Function],
    numbers: dict[str, int],
    is_vf: bool,
) -> int:
    """PCI function number of the function that follows those ``before`` in its slot."""
    following = before[-1].function + 1 if before else 0
    if "function" not in fields and following == _FUNCTIONS:
        reader.fail(fields.line, f"{what}: a slot has functions 0 to {_FUNCTIONS - 1}, found one more: {following}")
    number = reader.number(fields, "function", what, default=following)
    reader.once(numbers, f"{bus:02x}:00.{number}", fields.line, f"{what}: function at address")
    if number < following:
        reader.fail(fields.line, f"{what}: functions must be in order, found function {number} after {following - 1}")
    if is_vf and not before:
        reader.fail(fields.line, f"{what}: VF without a PF before it in its slot")
    if is_vf and number != following:
        reader.fail(
            fields.line,
            f"{what}: VFs follow their PF without a gap (SR-IOV: first VF offset 1, stride 1), "
            f"expected function {following}, found {number}",
        )
    return number


def _uuid(reader: Reader, fields: Fields, what: str, name: str, uuids: dict[str, int]) -> str:
    most = fields.properties["uuid"]["maxLength"]
    reason = f"{name}: UUID {{}} is not 1 to {most} bytes of printable ASCII"
    uuid = reader.matching(fields, "uuid", f"{what} {name}", reason)
    reader.once(uuids, uuid, fields.lines["uuid"], "UUID")
    return uuid


def _window(reader: Reader, fields: Fields, name: str) -> int:
    """Bytes of device memory."""
    if "window" not in fields:
        return DEFAULT_WINDOW
    size = reader.size(fields, "window", name)
    if not is_window(size):
        reader.fail(fields.lines["window"], f"{name}: window must be {WINDOWS}, found {fields['window']!r}")
    return size


def _leading_vfs(items: list[Any]) -> int:
    """Number of VFs at the beginning of ``items``."""
    count = 0
    for item in items:
        if not (isinstance(item, dict) and item.get("vf")):
            break
        count += 1
    return count


def _capabilities(reader: Reader, fields: Fields, name: str) -> tuple[str, ...]:
    value = fields.get("capabilities", ["compute"])
    # An item may be a list, which is not hashable.
    if not isinstance(value, list) or "compute" not in value or any(item not in list(CAPABILITIES) for item in value):
        reader.fail(
            fields.lines["capabilities"],
            f"{name}: capabilities must be a list of {', '.join(CAPABILITIES)}, always with compute, found {value!r}",
        )
    return tuple(item for item in CAPABILITIES if item in value)
