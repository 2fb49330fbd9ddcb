"""Format Kubernetes quantities in canonical form and parse them to compare by value.

Source: apimachinery, ``api/resource/quantity.go`` and ``suffix.go``.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

_BINARY = {"Ei": 1 << 60, "Pi": 1 << 50, "Ti": 1 << 40, "Gi": 1 << 30, "Mi": 1 << 20, "Ki": 1 << 10}
_DECIMAL = {"E": 10**18, "P": 10**15, "T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3}
_SMALL = {"": Decimal(1), "m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_UNITS = _SMALL | {suffix: Decimal(unit) for suffix, unit in (_BINARY | _DECIMAL).items()}
_EXACT = Context(prec=100)
"""More digits than the 63 bits and nine decimals of a quantity need."""
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?:(?P<suffix>[A-Za-z]{0,2})|[eE](?P<exponent>[+-]?\d{1,3}))"
)


def quantity(number: int) -> str:
    """``number`` as a quantity in the API server's canonical form."""
    for suffix, unit in (_BINARY if number % 1024 == 0 else _DECIMAL).items():
        if number and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def value(text: str) -> Decimal:
    """Exact value of the quantity ``text``. Raises ValueError if it is not a quantity."""
    match = _QUANTITY.fullmatch(text)
    unit = _UNITS.get(match["suffix"] or "") if match else None
    if match is None or unit is None:
        raise ValueError(f"expected a quantity like 16Gi, found {text!r}")
    return _EXACT.multiply(Decimal(match["number"]), unit).scaleb(int(match["exponent"] or 0), _EXACT)
