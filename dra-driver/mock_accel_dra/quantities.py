"""Quantities of Kubernetes: written in canonical form, compared by value.

Source: apimachinery, ``api/resource/quantity.go`` and ``suffix.go``.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = {"Ei": 1 << 60, "Pi": 1 << 50, "Ti": 1 << 40, "Gi": 1 << 30, "Mi": 1 << 20, "Ki": 1 << 10}
_DECIMAL = {"E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_UNITS = _BINARY | _DECIMAL | {"": 1}
_SMALL = {"m": 10**3, "u": 10**6, "n": 10**9}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?:(?P<suffix>[A-Za-z]{0,2})|[eE](?P<exponent>[+-]?\d{1,3}))"
)


def quantity(number: int) -> str:
    """``number`` as a quantity, in the form that the API server gives it."""
    for suffix, unit in (_BINARY if number % 1024 == 0 else _DECIMAL).items():
        if number and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def value(text: str) -> Fraction:
    """Exact value of the quantity ``text``. Raises ValueError when it is none."""
    match = _QUANTITY.fullmatch(text)
    suffix = (match["suffix"] or "") if match else ""
    if match is None or (suffix not in _UNITS and suffix not in _SMALL):
        raise ValueError(f"expected a quantity like 16Gi, found {text!r}")
    number = Fraction(match["number"]) * _UNITS.get(suffix, 1) / _SMALL.get(suffix, 1)
    return number * Fraction(10) ** int(match["exponent"] or 0)
