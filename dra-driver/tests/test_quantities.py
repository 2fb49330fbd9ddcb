"""Quantities are formatted as by the API server and compared by value."""

from __future__ import annotations

import pytest
from mock_accel_dra.quantities import quantity, value


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (16 << 30, "16Gi"),
        (3 << 29, "1536Mi"),
        (1 << 40, "1Ti"),
        (1024 << 40, "1Pi"),
        (1 << 60, "1Ei"),
        (1025 << 40, "1025Ti"),
        (2, "2"),
        (0, "0"),
        (1500, "1500"),
        (2000, "2k"),
        (5001000, "5001k"),
        ((1 << 63) - 1, "9223372036854775807"),
    ],
)
def test_quantities_are_canonical(number: int, text: str) -> None:
    assert quantity(number) == text
    assert value(text) == number


@pytest.mark.parametrize(
    ("one", "other"), [("1024Ti", "1Pi"), ("2", "2000m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), ("1E", "1000P")]
)
def test_equal_values_in_different_notation(one: str, other: str) -> None:
    assert value(one) == value(other)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1Xi", "--1", "1e"])
def test_invalid_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        value(text)
