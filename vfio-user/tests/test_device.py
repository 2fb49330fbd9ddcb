"""Registers and configuration space, from the view of a client."""

from __future__ import annotations

import errno

import pytest
from mock_accel_server.config_space import ConfigSpace
from mock_accel_server.protocol import RegionIndex
from mock_accel_server.registers import Identity, Registers
from running_server import PF, VF, Connect
from vfio_user_client import Client, Refused


@pytest.mark.parametrize(("name", "identity"), [("pf.sock", PF), ("vf.sock", VF)])
def test_register_layout(connect: Connect, name: str, identity: Identity) -> None:
    client = connect(name)
    assert client.read(0x00, 4) == (0x4D4F434B).to_bytes(4, "little")
    assert client.read(0x04, 4) == (0x00010000).to_bytes(4, "little")
    assert client.read(0x08, 16) == identity.uuid.encode().ljust(16, b"\0")
    assert client.read(0x18, 8) == bytes(8)
    assert client.read(0x20, 8) == identity.memory.to_bytes(8, "little")
    assert client.read(0x28, 4) == identity.capability_bits.to_bytes(4, "little")
    assert client.status == 0
    assert client.read(0x30, 4096 - 0x30) == bytes(4096 - 0x30)


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


def test_only_status_can_be_written(connect: Connect) -> None:
    client = connect()
    before = client.read(0, 4096)
    client.write(0, b"\xff" * 4096)
    assert client.read(0, 4096) == before
    client.write(0x20, b"\xaa" * 12 + b"\1\0\0\0" + b"\xaa" * 8)
    assert client.read(0, 4096) == before[:0x2C] + b"\1" + before[0x2D:]


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
    for other in (0x14, 0x18, 0x1C, 0x20, 0x24, 0x30):
        assert size_bar(client, other) == 0
    client.write_config(0x10, 4, 0xFEBF1234)
    assert client.config(0x10, 4) == 0xFEBF1000
    client.write_config(0x13, 1, 0xE0)
    assert client.config(0x10, 4) == 0xE0BF1000


def test_express_capability(connect: Connect) -> None:
    client = connect()
    assert (client.config(0x40, 1), client.config(0x41, 1)) == (0x10, 0)
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
    assert client.config(0x06, 2) == 0x0010
    assert client.config(0x3C, 1) == 0xFF
    client.write(0, bytes(4096), RegionIndex.CONFIG)
    after = client.read(0, 4096, RegionIndex.CONFIG)
    for offset in [*range(4), *range(6, 12), *range(0x0D, 0x10), *range(0x2C, 0x3C), *range(0x3D, 0x48), 0x4C]:
        assert after[offset] == before[offset], hex(offset)


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
    assert client.config(0x100, 4) == 0x00010010
    assert (client.config(0x10C, 2), client.config(0x10E, 2)) == (2, 2)
    assert (client.config(0x114, 2), client.config(0x116, 2), client.config(0x11A, 2)) == (1, 1, 2)
    assert size_bar(client, 0x124) == 0xFFFFF000
    assert connect("vf.sock").config(0x100, 4) == 0


def test_longest_uuid_and_largest_memory() -> None:
    registers = Registers(Identity("x", "0123456789ABCDEF", (1 << 64) - 1, 15))
    assert registers.read(0x08, 16) == b"0123456789ABCDEF"
    assert registers.read(0x20, 12) == b"\xff" * 8 + b"\x0f\0\0\0"
