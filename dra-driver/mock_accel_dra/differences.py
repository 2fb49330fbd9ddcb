"""Compare an object of the API server with the one that was written.

Quantities are compared by value. Empty fields count as missing. The time at which
a taint was added is ignored, because the API server sets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mock_accel_dra import quantities

Object = dict[str, Any]
_QUANTITIES = ("capacity", "counters")
"""Fields of resource.k8s.io/v1 that map names to an object whose ``value`` is a quantity."""
_BY_SERVER = "timeAdded"


def view(item: Object, wish: Object) -> Object:
    """The fields of ``item`` that this driver writes, normalized: two views are equal if they mean the same.

    Only labels that ``wish`` has are included, because others may add theirs.
    """
    labels = item["metadata"].get("labels") or {}
    own = {name: labels[name] for name in wish["metadata"]["labels"] if name in labels}
    metadata = {"labels": own, "ownerReferences": item["metadata"].get("ownerReferences")}
    plain: Object = _plain({"metadata": metadata, "spec": item["spec"]})
    return plain


def paths(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """Paths of the topmost fields in which two views differ, like ``spec.devices[0].taints``."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            if key in expected and key in found:
                yield from paths(expected[key], found[key], _below(path, key))
            else:
                yield _below(path, key)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from paths(one, other, f"{path}[{index}]")
    elif expected != found:
        yield path


def _below(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        if key in _QUANTITIES:
            return {name: _number(item) for name, item in value.items()}
        plain = {name: _plain(item, name) for name, item in value.items() if name != _BY_SERVER}
        return {name: item for name, item in plain.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _number(item: Any) -> Any:
    try:
        return {**item, "value": quantities.value(str(item["value"]))}
    except (KeyError, TypeError, ValueError):
        return item
