"""What CDI files of any driver add to containers."""

from __future__ import annotations

import subprocess

import pytest

from mock_device.checks.nodes import cdi_edits
from mock_device.checks.nodes.cdi_edits import Container, Edits

FILES = """\
file\t/etc/cdi/any.yaml
+cdiVersion: "0.6.0"
+kind: any.example.com/gpu
+containerEdits:
+  env: [COMMON=1]
+devices:
+  - name: a
+    containerEdits:
+      env: [GPU=a]
+      deviceNodes: [{path: /dev/gpu/a}]
+      mounts: [{hostPath: /lib/x, containerPath: /x}]
+  - name: b
file\t/var/run/cdi/broken.json
+{"kind":
file\t/var/run/cdi/list.json
+[1, 2]
file\t/var/run/cdi/other.json
+{"kind": "other.example.com/nic",
+ "devices": [{"name": "n", "containerEdits": {"env": ["NIC=n=1"]}}]}
-- end --
"""
A, B = Edits(("GPU=a", "ONLY_A=1"), ("/dev/gpu/a",)), Edits(("GPU=b",), ("/dev/gpu/b",))
SEEN = Container({"GPU": "a", "ONLY_A": "1", "PATH": "/bin"}, frozenset({"/", "/dev/gpu/a"}))


def test_devices_have_the_common_edits_and_their_own() -> None:
    assert cdi_edits.parse_files("node1", FILES) == {
        "any.example.com/gpu=a": Edits(("COMMON=1", "GPU=a"), ("/dev/gpu/a", "/x")),
        "any.example.com/gpu=b": Edits(("COMMON=1",)),
        "other.example.com/nic=n": Edits(("NIC=n=1",)),
    }


def test_probe_of_files_is_a_program_of_the_shell() -> None:
    output = subprocess.run(["sh", "-c", cdi_edits.FILES_PROBE], capture_output=True, text=True, check=True).stdout
    assert cdi_edits.parse_files("here", output).keys() >= set()


def test_probe_of_a_container_shows_variables_and_mounts() -> None:
    environment = {"GPU": "a=b", "PATH": "/usr/bin:/bin"}
    command = ["sh", "-c", cdi_edits.CONTAINER_PROBE]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    seen = cdi_edits.parse_container("here", output)
    assert seen.environment["GPU"] == "a=b"
    assert {"/proc", "/dev/null"} <= seen.paths


def test_incomplete_output_is_an_error() -> None:
    with pytest.raises(ValueError, match="node1: expected complete output"):
        cdi_edits.parse_files("node1", FILES.removesuffix("-- end --\n"))
    with pytest.raises(ValueError, match="main: expected complete output, found ''"):
        cdi_edits.parse_container("main", "")


def test_container_with_its_devices_has_no_complaints() -> None:
    assert cdi_edits.container_complaints(SEEN, [A], [B]) == []


def test_one_of_several_values_is_enough() -> None:
    seen = Container({"GPU": "b", "ONLY_A": "1"}, frozenset({"/dev/gpu/a", "/dev/gpu/b"}))
    assert cdi_edits.container_complaints(seen, [A, B]) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (Container({"GPU": "a"}, SEEN.paths), "expected ONLY_A to be 1, found it not"),
        (Container({"GPU": "b", "ONLY_A": "1"}, SEEN.paths), "expected GPU to be a, found b"),
        (Container(SEEN.environment, frozenset({"/"})), "expected /dev/gpu/a, found it not"),
        (
            Container(SEEN.environment, SEEN.paths | {"/dev/gpu/b"}),
            "expected no /dev/gpu/b of another device, found it",
        ),
    ],
)
def test_what_a_container_lacks_or_has_too_much_is_reported(seen: Container, complaint: str) -> None:
    assert cdi_edits.container_complaints(seen, [A], [B]) == [complaint]


def test_variable_of_another_device_is_reported() -> None:
    assert cdi_edits.container_complaints(SEEN, [B], [A]) == [
        "expected GPU to be b, found a",
        "expected /dev/gpu/b, found it not",
        "expected no ONLY_A of another device, found 1",
        "expected no /dev/gpu/a of another device, found it",
    ]
