"""What containers and ordinary users must not reach: devices without a claim, registers, the driver's sockets."""

from __future__ import annotations

from mock_device.checks.driver import checkpoint
from mock_device.checks.nodes.sysfs import CLASS_FOLDER
from mock_device.driver import current
from mock_device.lab.cluster.node_runtime import NodeRuntime

USER = 65534
"""An ordinary user of the nodes (nobody)."""
DEVICES_PROBE = "env; cat /proc/mounts"
USERS_PROBE = "cat /proc/self/uid_map"
# Opening an attribute for writing changes nothing. sysfs refuses it for attributes that are read-only by design.
WRITE_PROBE = f"""
for path in {CLASS_FOLDER}/*/* $(find /sys/devices -path '*/mock-accel/*/*' 2>/dev/null); do
  [ -f "$path" ] || continue
  if {{ true >>"$path"; }} 2>/dev/null; then echo "writable $path"; else echo "refused $path"; fi
done
for folder in {CLASS_FOLDER} {CLASS_FOLDER}/*; do
  mkdir "$folder/new" 2>/dev/null && echo "writable $folder"
done
true
"""
_SOCKETS = 2
"""A service and a registration socket."""


def sockets_probe(runtime: NodeRuntime) -> str:
    """Shell command that counts the driver's sockets on a node, and names its files that USER can open."""
    checkpoint_file = checkpoint.path(runtime) if current.driver().checkpoint else ""
    return f"""
found=0
for path in {checkpoint.folder(runtime)}/*.sock {checkpoint_file} \\
        {runtime.kubelet_root}/plugins_registry/{current.driver().name}*.sock; do
  [ -e "$path" ] || continue
  found=$((found + 1))
  for how in -r -w; do
    setpriv --reuid={USER} --regid={USER} --clear-groups test "$how" "$path" && echo "open $how $path"
  done
done
echo "found $found"
"""


def device_complaints(output: str) -> list[str]:
    """What the output of DEVICES_PROBE, in a container without a claim, shows of devices."""
    driver = current.driver()
    signs = [f" {CLASS_FOLDER}", *([driver.environment.prefix] if driver.environment else [])]
    traces = [line for line in output.splitlines() if any(sign in line for sign in signs)]
    return [f"expected no trace of a device without a claim, found {trace}" for trace in traces]


def user_complaints(output: str) -> list[str]:
    """Whether user 0 of a container is user 0 of the node, from the output of USERS_PROBE.

    Each line has three numbers (user_namespaces(7)): first user inside, first user outside, length.
    """
    first = output.split()
    if len(first) >= 3 and first[0] == "0" and first[1] != "0":
        return []
    return [f"expected user 0 to be another user on the node, found uid_map {output!r}"]


def write_complaints(output: str) -> list[str]:
    """Attributes and folders in sysfs that a container can write, by WRITE_PROBE; also if it found no attribute."""
    lines = output.splitlines()
    if not any(line.startswith("refused ") for line in lines):
        return ["expected attributes in sysfs that refuse writes, found none that does"]
    return [f"expected all writes to be refused, found {line}" for line in lines if line.startswith("writable ")]


def socket_complaints(output: str) -> list[str]:
    """Files that USER can open on a node, from the output of ``sockets_probe``; also if sockets are missing."""
    lines = output.splitlines()
    if not lines or int(lines[-1].removeprefix("found ")) < _SOCKETS:
        return [f"expected a service and a registration socket, found {lines}"]
    return [f"expected no file that user {USER} can open, found {line}" for line in lines[:-1]]
