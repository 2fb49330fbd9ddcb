"""Descriptors, lists and rings as data."""

from __future__ import annotations

import struct

import pytest
from mock_accel_server import descriptors
from mock_accel_server.descriptors import Descriptor, JobError, Status
from mock_accel_server.dma import DmaTable, Extent
from mock_accel_server.irqs import IrqTable
from mock_accel_server.protocol import DmaFlag
from mock_accel_server.ring import Client, Ring
from mock_accel_server.spans import Span
from mock_accel_server.window import Window


def test_fields_of_a_descriptor() -> None:
    data = struct.pack("<HHIQQQQIIIIQ", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    assert len(data) == descriptors.SIZE == 64
    assert descriptors.parse(data) == Descriptor(1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert descriptors.result(5) == struct.pack("<IQ", 0, 5)


def segments(*fields: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<QII", address, length, 0) for address, length in fields)


@pytest.mark.parametrize(
    ("needed", "taken"),
    [(1, [(10, 1)]), (4, [(10, 4)]), (5, [(10, 4), (20, 1)]), (9, [(10, 4), (20, 5)])],
)
def test_segments_are_cut_to_what_is_needed(needed: int, taken: list[tuple[int, int]]) -> None:
    assert descriptors.parse_segments(segments((10, 4), (20, 5)), needed) == taken


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        (segments((10, 4), (20, 5)), 10),
        (segments((10, 4), (20, 0)), 4),
        (struct.pack("<QII", 10, 4, 1), 4),
    ],
)
def test_bad_lists(data: bytes, needed: int) -> None:
    with pytest.raises(JobError) as caught:
        descriptors.parse_segments(data, needed)
    assert caught.value.status == Status.BAD_LIST


def test_pieces_of_a_span() -> None:
    span = Span([Extent(3, 100, 10), Extent(4, 200, 5), Extent(3, 0, 7)], Status.SOURCE_FAULT)
    assert span._pieces(0, 22) == [(3, 100, 0, 10), (4, 200, 10, 15), (3, 0, 15, 22)]
    assert span._pieces(9, 2) == [(3, 109, 0, 1), (4, 200, 1, 2)]
    assert span._pieces(10, 5) == [(4, 200, 0, 5)]
    assert span._pieces(21, 1) == [(3, 6, 0, 1)]
    assert span._pieces(22, 0) == []


def test_limit_of_waiting_descriptors() -> None:
    ring = Ring(Client(DmaTable(), IrqTable(), Window(4096)), 0, 8)
    ring.add(5, 3)
    assert ring.over == {3, 4}
    for _ in range(3):
        ring.advance()
    ring.add(2, 3)
    assert ring.over == {3, 4, 6, 7, 0, 1}, "two wait already, so one more may"
    for _ in range(7):
        ring.advance()
    assert (ring.head, ring.tail, ring.over) == (2, 2, set())


def test_lookup_in_an_empty_table() -> None:
    table = DmaTable()
    for address in (0, 1 << 63, (1 << 64) - 1, 1 << 64):
        assert table.resolve(address, 1, DmaFlag.READABLE) is None
