"""``lab devices``, ``lab slices`` and ``lab cdi`` with recorded nodes and objects."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from decimal import Decimal

import pytest
from support.recorded_cluster import NODE1, NODE2, cdi_file, claim, published, shown
from support.topologies import CLUSTER

from mock_device.checks.errors import CheckError
from mock_device.checks.nodes.cdi import CdiFile
from mock_device.checks.objects import slices
from mock_device.tools import cdi, devices
from mock_device.tools import slices as slice_tool
from mock_device.tools.cdi import Change, Entry
from mock_device.tools.devices import DeviceStatus
from mock_device.tools.slices import Holder
from mock_device.topology import DeviceId

ROWS = devices.of_node(shown(CLUSTER.nodes[0], ["mock0"]))
PUBLISHED = slices.parse(published())
FILE = cdi_file()
STRAY = CdiFile(NODE1, "/var/run/cdi/.example.com_mock-accel-mock1.json.7.tmp", "")


def test_devices_of_a_node_are_listed() -> None:
    assert ROWS[0] == DeviceStatus(
        node=NODE1,
        name="mock0",
        status="allocated",
        uuid="NODE1-NUMA0-PF",
        pci="0000:11:00.0",
        numa_node=0,
        memory=16 << 30,
        capabilities=("compute", "encryption", "compression"),
        type="pf",
    )
    assert [row.status for row in ROWS[1:]] == ["free"] * 5


def test_vf_and_unknown_status_are_shown() -> None:
    node = CLUSTER.nodes[0]
    vf = replace(shown(node).accelerators[0], name="mock0_vf0", bdf="0000:11:00.1", status=7)
    (row,) = devices.of_node(replace(shown(node), accelerators=(vf,)))
    assert (row.type, row.status) == ("vf", "7")


def test_device_is_found_by_both_its_names() -> None:
    rows = [*ROWS, replace(ROWS[0], name="mock0_vf0")]
    assert devices.pick(NODE1, rows, "mock0-vf0") == devices.pick(NODE1, rows, "mock0_vf0") == rows[-1]


@pytest.mark.parametrize(
    ("rows", "known"),
    [(ROWS[:2], "mock0, mock1"), ([], "none (is the kernel module loaded? see: lab diagnose)")],
)
def test_error_of_an_unknown_device_lists_the_known_ones(rows: list[DeviceStatus], known: str) -> None:
    with pytest.raises(CheckError) as caught:
        devices.pick(NODE1, rows, "mock99")
    assert str(caught.value) == f"no device 'mock99' on {NODE1}; available: {known}"


def test_rows_are_compared_with_the_topology() -> None:
    rows = [row for node in CLUSTER.nodes for row in devices.of_node(shown(node))]
    assert devices.complaints(CLUSTER, rows) == []
    (wrong,) = devices.complaints(CLUSTER, [replace(rows[0], numa_node=1), *rows[1:]])
    assert "numa_node=0" in wrong and "found DeviceStatus" in wrong and "numa_node=1" in wrong
    (missing,) = devices.complaints(CLUSTER, rows[:-1])
    assert missing.endswith("by topology numa-cluster, found none")
    strange = replace(rows[0], name="mock9")
    assert devices.complaints(CLUSTER, [*rows, strange]) == [f"{NODE1} mock9: topology numa-cluster has no such device"]


def test_devices_as_text() -> None:
    assert devices.table(ROWS[:2]).as_text().splitlines() == [
        "node\tdevice\tstatus\tuuid\tpci\tnuma\tmemory\tcapabilities\ttype",
        f"{NODE1}\tmock0\tallocated\tNODE1-NUMA0-PF\t0000:11:00.0\t0\t16384 MiB\tcompute,encryption,compression\tpf",
        f"{NODE1}\tmock1\tfree\tNODE1-NUMA0-PF1\t0000:12:00.0\t0\t32768 MiB\tcompute,encryption\tpf",
    ]


def test_slices_with_their_claims_and_pods() -> None:
    rows = slice_tool.rows(PUBLISHED, [claim("user", "mock0"), claim("waits")], NODE1)
    assert slice_tool.table(rows[:2]).as_text().splitlines() == [
        "name\tnode\tdevice\tnuma\tpci\tallocated to",
        f"mock-accel.example.com-{NODE1}-mock0\t{NODE1}\tmock0\t0\t0000:11:00.0\tdefault/user → user",
        f"mock-accel.example.com-{NODE1}-mock1\t{NODE1}\tmock1\t0\t0000:12:00.0\t-",
    ]
    assert {row.node for row in rows} == {NODE1} and len(rows) == 6
    assert len(slice_tool.rows(PUBLISHED, [])) == 12


def test_claims_are_shown_with_all_their_pods() -> None:
    kept = claim("user", "mock0")
    kept["status"]["reservedFor"] = None
    assert slice_tool.rows(PUBLISHED, [kept])[0].holders == (Holder("default/user", ()),)
    assert str(Holder("default/user", ())) == "default/user → no pod"
    kept["status"]["reservedFor"] = [{"resource": "pods", "name": "a"}, {"resource": "pods", "name": "b"}]
    assert str(slice_tool.rows(PUBLISHED, [kept])[0].holders[0]) == "default/user → a, b"


def test_device_with_administrative_access_is_free_and_shown_with_it() -> None:
    watches = claim("watches", "mock0")
    watches["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True
    (watched, *_) = slice_tool.rows(PUBLISHED, [watches])
    assert watched.is_free and watched.holders == (Holder("default/watches", ("watches",), "adminAccess"),)
    assert slice_tool.table([watched]).as_text().endswith("\t0000:11:00.0\tdefault/watches (adminAccess) → watches")
    (both, *_) = slice_tool.rows(PUBLISHED, [claim("user", "mock0"), watches])
    assert not both.is_free
    assert slice_tool.table([both]).as_text().endswith("\tdefault/user → user; default/watches (adminAccess) → watches")


def test_share_of_a_device_is_shown_with_what_it_consumes() -> None:
    shares = claim("shares", "mock0")
    shares["status"]["allocation"]["devices"]["results"][0] |= {
        "shareID": "4f7a",
        "consumedCapacity": {"memory": "2Gi"},
    }
    assert str(slice_tool.rows(PUBLISHED, [shares])[0].holders[0]) == (
        "default/shares (a share of it, 2Gi of memory) → shares"
    )


def test_pf_whose_vf_is_allocated_is_not_free() -> None:
    pool = f"{NODE1}/mock0"
    taken = claim("user", "mock0-vf0")
    taken["status"]["allocation"]["devices"]["results"][0]["pool"] = pool
    uses, has = {"slots/slots": Decimal(2)}, {"slots/slots": Decimal(2)}
    pf = replace(PUBLISHED[0], consumes=uses, counters=has)
    vf = replace(pf, device="mock0-vf0", name="mock0_vf0", consumes={"slots/slots": Decimal(1)})
    rows = slice_tool.rows([pf, vf], [taken])
    assert [(row.device, row.is_free, len(row.holders)) for row in rows] == [
        ("mock0", False, 0),
        ("mock0_vf0", False, 1),
    ]
    assert slice_tool.table(rows[:1]).as_text().endswith("\t- (what it needs is used up)")


def test_cdi_files_are_listed_with_their_claims() -> None:
    entries = cdi.entries([FILE, STRAY], PUBLISHED, [claim("user", "mock0")])
    assert entries == [Entry(NODE1, "mock0", "default/user", FILE.path), Entry(NODE1, "", "", STRAY.path)]
    assert cdi.table(entries).as_text().splitlines() == [
        "node\tdevice\tclaim\tpath",
        f"{NODE1}\tmock0\tdefault/user\t/var/run/cdi/example.com_mock-accel-mock0.json",
        f"{NODE1}\t-\t-\t{STRAY.path}",
    ]


def test_file_of_a_device_is_found() -> None:
    assert cdi.pick([STRAY, FILE], None) == [STRAY, FILE]
    assert cdi.pick([STRAY, FILE], "mock0") == [FILE]
    with pytest.raises(CheckError, match=f"no CDI file of device 'mock1'; available: {NODE1} mock0$"):
        cdi.pick([FILE], "mock1")
    with pytest.raises(CheckError, match=r"available: none \(no device is prepared for a pod\)"):
        cdi.pick([], "mock1")


def test_check_reports_violations_of_schema_and_claims() -> None:
    has = [claim("user", "mock0")]
    assert cdi.findings(CLUSTER, [FILE], PUBLISHED, has) == []
    assert cdi.findings(CLUSTER, [], PUBLISHED, has, NODE2) == []
    (missing,) = cdi.findings(CLUSTER, [], PUBLISHED, has, NODE1)
    assert missing.startswith(f"{NODE1} mock0 (0000:11:00.0): is allocated, but the node has no /var/run/cdi/")
    (left,) = cdi.findings(CLUSTER, [FILE], PUBLISHED, [])
    assert left == f"{NODE1}: {FILE.path} is unexpected: no allocated device belongs to it"
    wrong = json.loads(FILE.text) | {"kind": 5}
    schema, ours = cdi.findings(CLUSTER, [replace(FILE, text=json.dumps(wrong))], PUBLISHED, has)
    assert "$.kind: 5 is not of type" in schema and "expected kind 'example.com/mock-accel', found 5" in ours
    (gone,) = cdi.findings(CLUSTER, [], [item for item in PUBLISHED if item.name != "mock0"], has)
    assert gone.startswith("claim 'user' has device mock0 of pool")


def test_watch_shows_files_and_changes_until_the_deadline() -> None:
    other = replace(FILE, text="{}")
    looks: Iterator[list[CdiFile]] = iter([[FILE], [FILE], [other, STRAY], [STRAY]])
    last = [STRAY]
    started: list[bool] = []
    changes = list(cdi.watch(lambda: next(looks, last), 0.3, lambda: started.append(True), pause=0.02))
    assert started == [True]
    assert changes == [
        Change("there", FILE),
        Change("appeared", STRAY),
        Change("changed", other),
        Change("disappeared", other),
    ]
    now = datetime.datetime(2026, 11, 25, 7, 30, tzinfo=datetime.UTC)
    assert cdi.as_line(changes[0], now) == f"2026-11-25T07:30:00+00:00\tthere\t{NODE1}\t{FILE.path}"


def test_slices_are_compared_with_topology_and_pod() -> None:
    rows = slice_tool.rows(PUBLISHED, [claim("user", "mock0")])
    mock0, mock1 = (DeviceId(NODE1, name) for name in ("mock0", "mock1"))
    assert slice_tool.complaints(CLUSTER, rows, "user", [mock0]) == []
    assert slice_tool.complaints(CLUSTER, [*rows[2:], rows[2]], "user", [mock0]) == [
        f"{NODE1} mock0: expected one line, found 0",
        f"{NODE1} mock1: expected one line, found 0",
        f"{rows[2].id}: expected one line, found 2",
        f"pod user: expected it at {mock0}, found it at none",
    ]
    (other,) = slice_tool.complaints(CLUSTER, rows, "user", [mock0, mock1])
    assert other == f"pod user: expected it at {mock0}, {mock1}, found it at {mock0}"


def test_unreported_changes_of_cdi_files() -> None:
    changes = [Change("appeared", FILE), Change("disappeared", STRAY)]
    mock0 = DeviceId(NODE1, "mock0")
    assert cdi.unreported(changes, "appeared", [mock0]) == []
    assert cdi.unreported(changes, "disappeared", [mock0]) == [f"{mock0}: its file has not disappeared"]


def test_lines_of_the_watch_are_parsed() -> None:
    change = Change("appeared", FILE)
    assert cdi.parse_change(json.dumps({"time": "now", **asdict(change)})) == change
    assert cdi.parse_change('{"time": "now", "what": "watching"}') is None
