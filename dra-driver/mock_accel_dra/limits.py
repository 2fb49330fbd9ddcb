"""Find values of a device that the API server would refuse, before they are sent.

The API server refuses a whole slice for one bad value. Source: resource.k8s.io/v1
of Kubernetes 1.37, ``types.go`` (the limits) and ``pkg/apis/resource/validation``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mock_accel_dra import quantities

_STRING_BYTES = 64
"""DeviceAttributeMaxValueLength."""
_ATTRIBUTES = 32
"""ResourceSliceMaxAttributesAndCapacitiesPerDevice."""
_INT64 = 1 << 63
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def complaint(device: Mapping[str, Any]) -> str:
    """Why the API server would refuse ``device`` (as in a slice's ``spec.devices``); empty if it accepts it."""
    return "; ".join(_complaints(device))


def _complaints(device: Mapping[str, Any]) -> Iterator[str]:
    name, attributes, capacity = device["name"], device["attributes"], device["capacity"]
    if not _LABEL.fullmatch(name):
        yield f"expected a DNS label as name, found {name}"
    if len(attributes) + len(capacity) > _ATTRIBUTES:
        yield f"expected at most {_ATTRIBUTES} attributes and capacities, found {len(attributes) + len(capacity)}"
    for key, attribute in attributes.items():
        text, number = attribute.get("string", ""), attribute.get("int", 0)
        if (size := len(text.encode())) > _STRING_BYTES:
            yield f"attribute {key}: expected at most {_STRING_BYTES} bytes, found {size}"
        if not -_INT64 <= number < _INT64:
            yield f"attribute {key}: expected a number below 2^63, found {number}"
    for key, item in capacity.items():
        # The API server does not refuse a greater number but silently truncates it.
        if quantities.value(item["value"]) >= _INT64:
            yield f"capacity {key}: expected a number below 2^63, found {item['value']}"
