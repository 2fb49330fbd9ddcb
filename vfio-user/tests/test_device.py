"""Registers and configuration space, from the view of a client."""

from __future__ import annotations

import errno

import pytest
from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.firmware import FirmwareStatus
from mock_accel_server.protocol import Command, RegionIndex
from mock_accel_server.registers import Identity, Registers, RingError
from running_server import PF, VF, Connect
from vfio_user_client import Client, Refused


@pytest.mark.parametrize(("name", "identity"), [("pf.sock", PF), ("vf.sock", VF)])
def test_register_layout(connect: Connect, name: str, identity: Identity) -> None:
    client = connect(name)
    assert client.read(0x00, 4) == (0x4D4F434B).to_bytes(4, "little")
    assert client.read(0x04, 4) == (0x00020000).to_bytes(4, "little")
    assert client.read(0x08, 16) == identity.uuid.encode().ljust(16, b"\0")
    assert client.read(0x18, 8) == bytes(8)
    assert client.read(0x20, 8) == identity.memory.to_bytes(8, "little")
    assert client.read(0x28, 4) == identity.capability_bits.to_bytes(4, "little")
    assert client.status == 0
    others = {0x54: identity.window, 0x70: 45_000, 0x74: 95_000}
    for offset in range(0x30, 4096, 4):
        assert client.read(offset, 4) == others.get(offset, 0).to_bytes(4, "little"), hex(offset)


def test_any_size_and_alignment_can_be_read(connect: Connect) -> None:
    client = connect()
    whole = client.read(0, 4096)
    for offset, count in [(1, 3), (3, 7), (0x2B, 6), (4095, 1), (0, 0), (4096, 0)]:
        assert client.read(offset, count) == whole[offset : offset + count]


@pytest.mark.parametrize("region", [RegionIndex.BAR0, RegionIndex.CONFIG])
@pytest.mark.parametrize(("offset", "count"), [(4096, 1), (4095, 2), (0, 4097), ((1 << 64) - 1, 4), (0, 0xFFFFFFFF)])
def test_access_out_of_range_is_refused(connect: Connect, region: int, offset: int, count: int) -> None:
    client = connect()
    with pytest.raises(Refused) as caught:
        client.read(offset, count, region)
    assert caught.value.number == errno.EINVAL
    with pytest.raises(Refused):
        client.write(offset, bytes(min(count, 8192)), region)
    assert client.read(0, 4) == b"KCOM"


def test_writable_registers_and_no_others(connect: Connect) -> None:
    """RUN does not start a ring at an invalid address; all else that is written is cleared by a reset."""
    client = connect()
    before = client.read(0, 4096)
    client.write(0, b"\xff" * 4096)
    expected = bytearray(before)
    for offset, value in {
        0x38: RingError.NO_FIRMWARE.to_bytes(4, "little"),
        0x40: b"\xff" * 12,
        0x78: b"\xff" * 4 + PF.window.to_bytes(4, "little"),
        0x80: b"\xff" * 12,
        0x90: FirmwareStatus.BAD_FORMAT.to_bytes(4, "little"),
    }.items():
        expected[offset : offset + len(value)] = value
    after = client.read(0, 4096)
    assert after == bytes(expected), [hex(at) for at in range(4096) if after[at] != expected[at]]
    client.call(Command.DEVICE_RESET)
    assert client.read(0, 4096) == before
    client.write(0x20, b"\xaa" * 12 + b"\1\0\0\0" + b"\xaa" * 4)
    assert client.read(0, 4096) == before[:0x2C] + b"\1" + before[0x2D:]


def test_part_of_a_register_can_be_written(connect: Connect) -> None:
    client = connect()
    client.write(0x40, bytes(range(1, 9)))
    client.write(0x43, b"\xee\xdd")
    assert client.read(0x40, 8) == b"\1\2\3\xee\xdd\6\7\x08"
    client.write(0x44, b"\0\0\0\0\x10")
    assert client.read(0x40, 12) == b"\1\2\3\xee\0\0\0\0\x10\0\0\0"


def test_status_takes_0_and_1_only(connect: Connect) -> None:
    client = connect()
    client.set_status(1)
    for value in (2, 3, 0x100, 0xFFFFFFFF, 0x01000000):
        client.set_status(value)
        assert client.status == 1
    client.write(0x2D, b"\1")
    assert client.status == 1
    client.write(0x2C, b"\0")
    assert client.status == 0
    client.write(0x2B, b"\xff\1")
    assert client.status == 1


@pytest.mark.parametrize(("name", "device_id"), [("pf.sock", 0x0001), ("vf.sock", 0x0002)])
def test_configuration_header(connect: Connect, name: str, device_id: int) -> None:
    client = connect(name)
    assert (client.config(0x00, 2), client.config(0x02, 2)) == (0x1DE5, device_id)
    assert client.config(0x06, 2) == 0x0010
    assert client.config(0x08, 4) == 0x12000001
    assert client.config(0x0E, 1) == 0x80
    assert (client.config(0x2C, 2), client.config(0x2E, 2)) == (0x1DE5, device_id)
    assert client.config(0x34, 1) == 0x40
    assert client.config(0x3D, 1) == 0


def test_a_lone_function_has_no_multifunction_bit() -> None:
    config = ConfigSpace(Identity("lone", "LONE", 1 << 30, 1), lambda: None)
    assert config.read(0x0E, 1) == b"\0"


def size_bar(client: Client, offset: int) -> int:
    client.write_config(offset, 4, 0xFFFFFFFF)
    return client.config(offset, 4)


def test_bar_sizing(connect: Connect) -> None:
    client = connect()
    assert size_bar(client, 0x10) == 0xFFFFF000
    assert (size_bar(client, 0x18), size_bar(client, 0x1C)) == (0xFFF0000C, 0xFFFFFFFF)
    for other in (0x14, 0x20, 0x24, 0x30):
        assert size_bar(client, other) == 0
    client.write_config(0x10, 4, 0xFEBF1234)
    assert client.config(0x10, 4) == 0xFEBF1000
    client.write_config(0x13, 1, 0xE0)
    assert client.config(0x10, 4) == 0xE0BF1000


def test_express_capability(connect: Connect) -> None:
    client = connect()
    assert (client.config(0x40, 1), client.config(0x41, 1)) == (0x10, 0x80)
    assert client.config(0x42, 2) == 0x0002
    assert client.config(0x44, 4) == 0x10008000
    assert client.config(0x4C, 4) & 0x3FF == client.config(0x52, 2) & 0x3FF == 0x104


def test_read_only_bits_stay(connect: Connect) -> None:
    """All ones, then all zeros, over everything."""
    client = connect()
    before = client.read(0, 4096, RegionIndex.CONFIG)
    client.write(0, b"\xff" * 0x48, RegionIndex.CONFIG)
    client.write(0x4A, b"\xff" * (4096 - 0x4A), RegionIndex.CONFIG)
    assert client.config(0x04, 2) == 0x0546
    assert (client.config(0x84, 2), client.config(0x92, 2)) == (0x000B, 0x01F3)
    assert client.config(0x06, 2) == 0x0010
    assert client.config(0x3C, 1) == 0xFF
    client.write(0, bytes(4096), RegionIndex.CONFIG)
    after = client.read(0, 4096, RegionIndex.CONFIG)
    for offset in [
        *range(4),
        *range(6, 12),
        *range(0x0D, 0x10),
        *range(0x2C, 0x3C),
        *range(0x3D, 0x48),
        0x4C,
        *range(0x80, 0x84),
        *range(0x94, 0x9C),
    ]:
        assert after[offset] == before[offset], hex(offset)


@pytest.mark.parametrize("name", ["pf.sock", "vf.sock"])
def test_capabilities_are_chained(connect: Connect, name: str) -> None:
    client = connect(name)
    found, at = [], client.config(0x34, 1)
    while at:
        found.append((at, client.config(at, 1)))
        at = client.config(at + 1, 1)
    assert found == [(0x40, 0x10), (0x80, 0x01), (0x90, 0x05)]
    sriov = 0x14010010 if name == "pf.sock" else 0x14000000
    assert (client.config(0x100, 4), client.config(0x140, 4)) == (sriov, 0x00020001)


def test_power_states(connect: Connect) -> None:
    """D1 and D2 do not exist; D3hot keeps everything."""
    client = connect()
    assert client.config(0x82, 2) == 0x0003
    client.set_status(1)
    for written, state in ((3, 3), (1, 3), (2, 3), (0, 0), (2, 0), (1, 0)):
        client.write_config(0x84, 2, written)
        assert client.config(0x84, 2) == 8 | state
    assert client.status == 1


def test_msi_capability(connect: Connect) -> None:
    client = connect()
    assert client.config(0x92, 2) == 0x0182, "two vectors, disabled, 64-bit addresses, maskable"
    client.write(0x92, b"\xff" * 0x16, RegionIndex.CONFIG)
    found = [client.config(0x92, 2), *(client.config(offset, 4) for offset in range(0x94, 0xAC, 4))]
    assert found == [0x01F3, 0xFFFFFFFC, 0xFFFFFFFF, 0xFFFF, 3, 0, 0]


def test_error_reporting_capability(connect: Connect) -> None:
    client = connect()
    assert (client.config(0x148, 4), client.config(0x14C, 4)) == (0, 0x00462030)
    assert client.config(0x154, 4) == 0xE000
    client.write_config(0x14C, 4, 0)
    client.write_config(0x154, 4, 0)
    client.call(Command.DEVICE_RESET)
    assert (client.config(0x14C, 4), client.config(0x154, 4)) == (0, 0), "sticky"


def test_function_level_reset(connect: Connect) -> None:
    client = connect()
    client.set_status(1)
    client.write_config(0x04, 2, 0x0006)
    client.write_config(0x48, 2, 0x2810)
    assert client.status == 1
    client.write_config(0x48, 2, 0xA810)
    assert (client.status, client.config(0x04, 2), client.config(0x48, 2)) == (0, 0, 0x2810)


def test_sriov_capability_of_a_pf_with_vfs(connect: Connect) -> None:
    client = connect()
    assert client.config(0x100, 4) == 0x14010010
    assert (client.config(0x10C, 2), client.config(0x10E, 2)) == (2, 2)
    assert (client.config(0x114, 2), client.config(0x116, 2), client.config(0x11A, 2)) == (1, 1, 2)
    assert size_bar(client, 0x124) == 0xFFFFF000
    assert (size_bar(client, 0x12C), size_bar(client, 0x130)) == (0xFFF0000C, 0xFFFFFFFF)
    for other in (0x128, 0x134, 0x138):
        assert size_bar(client, other) == 0


def test_longest_uuid_and_largest_memory() -> None:
    registers = Registers(Identity("x", "0123456789ABCDEF", (1 << 64) - 1, 15))
    assert registers.read(0x08, 16) == b"0123456789ABCDEF"
    assert registers.read(0x20, 12) == b"\xff" * 8 + b"\x0f\0\0\0"
