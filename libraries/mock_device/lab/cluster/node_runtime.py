"""The container runtime and the kubelet of a node: where they are, as found on the node itself.

Distributions of Kubernetes differ in sockets, units and folders; k3s, for example, runs containerd and the kubelet as
parts of its own unit. Nothing here is assumed that a running node can tell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from mock_device.lab.base.errors import StepError
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.cluster.ssh import SshTarget, on_node


class Kind(StrEnum):
    """Container runtimes with a CRI socket."""

    CONTAINERD = "containerd"
    CRIO = "cri-o"


UNITS = ("k3s", "k3s-agent", "kubelet", "containerd", "crio")
"""Names of units that may run a kubelet or a container runtime; the first ones run both."""
JOURNAL = f"journalctl --no-pager -n 50 {' '.join(f'-u {name}' for name in UNITS)}"
"""Shell command that prints the last messages of kubelet and container runtime, whichever a node has."""
HAS_UNIT = """
has_unit() {
  for folder in /etc /usr/local/lib /usr/lib /lib; do [ -f "$folder/systemd/system/$1.service" ] && return; done
  return 1
}
"""
"""Shell function ``has_unit NAME``: whether the node has a file of that systemd unit."""
# Lines: `KEY<tab>VALUE…`. Listening sockets are read from /proc, which needs no tool that a node may lack.
# /proc/net/unix: Flags 00010000 is __SO_ACCEPTCON (include/linux/net.h); /proc/net/tcp: state 0A is TCP_LISTEN.
PROBE = (
    HAS_UNIT
    + r"""export LC_ALL=C
port=$(awk '$2 ~ /:280A$/ && $4 == "0A" {print $10; exit}' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
sockets=$(awk '$4 == "00010000" && $8 ~ /\/(containerd|crio)\.sock$/ {print $7, $8}' /proc/net/unix)
holders=$(find /proc/[0-9]*/fd -maxdepth 1 -lname 'socket:*' -printf '%l %h\n' 2>/dev/null)
tools() {
  for tool in ctr crictl containerd; do [ -x "$1/$tool" ] && printf 'tool\t%s\t%s\n' "$tool" "$1/$tool"; done
}
process() {
  case $holders in *"socket:[$2] "*) ;; *) return 0 ;; esac
  folder=${holders#*"socket:[$2] "}; folder=${folder%%/fd*}
  unit=$(sed -n 's/^0::.*\/\([^/]*\.service\).*$/\1/p' "$folder/cgroup")
  exe=$(readlink "$folder/exe")
  command=$(tr '\0\t\n' '   ' < "$folder/cmdline")
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$3" "$unit" "$exe" "$command"
}
for name in ctr crictl k3s; do path=$(command -v "$name") && printf 'tool\t%s\t%s\n' "$name" "$path"; done
[ -z "$sockets" ] || echo "$sockets" | while read -r inode path; do
  process runtime "$inode" "$path"; tools "${exe%/*}"
done
if [ -n "$port" ]; then
  process kubelet "$port" ''
  config=${command#*--config=}; config=${config%% *}
  [ -f "$config" ] && sed -n 's/^containerRuntimeEndpoint: *"\{0,1\}\([^"]*\)"\{0,1\}$/endpoint\t\1/p' "$config"
fi
for name in @UNITS@; do has_unit "$name" && printf 'unit\t%s.service\n' "$name"; done
true
""".replace("@UNITS@", " ".join(UNITS))
)
"""Shell command, for root on a node, whose output ``parse`` reads. It changes nothing."""

_KUBELET_ROOT = "/var/lib/kubelet"
_CONFIGS = {Kind.CONTAINERD: "/etc/containerd/config.toml", Kind.CRIO: "/etc/crio/crio.conf"}
_NAMESPACE = "k8s.io"
"""containerd's namespace of the kubelet's images and containers."""


@dataclass(frozen=True)
class NodeRuntime:
    """Container runtime and kubelet of one node."""

    kind: Kind
    socket: str
    """Path of the CRI socket, which is containerd's own socket, too."""
    binary: str
    config: str
    """Path of the configuration file that the runtime was started with."""
    service: str
    """systemd unit that runs the container runtime."""
    kubelet_service: str
    """systemd unit that runs the kubelet; the same as ``service`` on k3s."""
    kubelet_root: str
    """The kubelet's ``--root-dir``, with its folders of plugins."""
    ctr: tuple[str, ...]
    """containerd's ``ctr`` for the kubelet's images: ``[*ctr, "images", "import", "-"]``; empty with CRI-O."""
    crictl: tuple[str, ...]
    """``crictl`` for this runtime; empty if the node has none."""

    @property
    def services(self) -> tuple[str, ...]:
        """Units of kubelet and container runtime, without repetition."""
        return tuple(dict.fromkeys((self.kubelet_service, self.service)))

    @property
    def dump_config(self) -> str:
        """Shell command that prints the effective configuration (TOML), including defaults and imports."""
        if self.kind is Kind.CRIO:
            return "crio status config"
        return shlex.join([self.binary, "-c", self.config, "config", "dump"])

    @property
    def restart(self) -> str:
        """Shell command that restarts the runtime, and waits until it accepts calls."""
        # The unit becomes active before the runtime accepts calls.
        ready = shlex.join([*self.ctr, "version"] if self.ctr else [*self.crictl, "version"])
        wait = shlex.join(
            [
                "timeout",
                f"{Timeout.RUNTIME_ANSWER.seconds:.0f}",
                "sh",
                "-c",
                f"until {ready} >/dev/null 2>&1; do sleep 0.2; done",
            ]
        )
        return f"systemctl restart {self.service} && {wait}"


def find(node: SshTarget) -> NodeRuntime:
    """Container runtime and kubelet of ``node``. Raises StepError."""
    return parse(node.name, on_node(node, ["sh", "-c", PROBE], timeout=Timeout.NODE_COMMAND.seconds))


def parse(node: str, output: str) -> NodeRuntime:
    """Read the output of ``PROBE`` on ``node``.

    Of several runtimes, the one that the kubelet uses counts: that of its ``--container-runtime-endpoint``, else one in
    the kubelet's own unit. Raises StepError if no runtime can be found, or if it is unclear which one the kubelet uses.
    """
    facts = [line.split("\t") for line in output.splitlines() if "\t" in line]
    kubelet = next((_Process(*fields[1:]) for fields in facts if fields[0] == "kubelet"), None)
    units = [fields[1] for fields in facts if fields[0] == "unit"]
    tools = _tools(facts)
    process = _chosen(node, [_Process(*fields[1:]) for fields in facts if fields[0] == "runtime"], kubelet, facts)
    kind = Kind.CRIO if process.socket.endswith("crio.sock") else Kind.CONTAINERD
    if not process.unit:
        raise StepError(f"{node}: expected that systemd runs {kind}, found {process.words!r} in no unit")
    return NodeRuntime(
        kind=kind,
        socket=process.socket,
        binary=process.binary(kind, tools),
        config=process.option("-c", "--config") or _CONFIGS[kind],
        service=process.unit,
        # A node of k3s may have the units of server and agent; the one that runs the runtime is in use.
        kubelet_service=(kubelet.unit if kubelet else "")
        or next(filter(_runs_kubelet, [process.unit, *units]), process.unit),
        kubelet_root=(kubelet.option("--root-dir") if kubelet else "") or _KUBELET_ROOT,
        ctr=_ctr(process, tools) if kind is Kind.CONTAINERD else (),
        crictl=_crictl(process, tools),
    )


@dataclass(frozen=True)
class _Process:
    socket: str
    unit: str
    exe: str
    command: str

    @property
    def words(self) -> list[str]:
        return self.command.split()

    def option(self, *names: str) -> str:
        """Value of the first option of ``names`` on the command line, in either form; empty without one."""
        words = self.words
        for number, word in enumerate(words):
            name, separator, value = word.partition("=")
            if name in names:
                return value if separator else next(iter(words[number + 1 :]), "")
        return ""

    def binary(self, kind: Kind, tools: Mapping[str, Sequence[str]]) -> str:
        """The runtime's program. That of k3s does many things: only its name says which."""
        beside = str(PurePosixPath(self.exe).with_name(kind.value))
        return beside if beside in tools.get(kind, ()) else self.exe


def _runs_kubelet(unit: str) -> bool:
    return unit.removesuffix(".service") in {"k3s", "k3s-agent", "kubelet"}


def _chosen(
    node: str, running: Sequence[_Process], kubelet: _Process | None, facts: Sequence[Sequence[str]]
) -> _Process:
    if not running:
        raise StepError(
            f"{node}: no container runtime listens on a socket named containerd.sock or crio.sock; "
            f"look at its journal: {JOURNAL}"
        )
    asked = kubelet.option("--container-runtime-endpoint") if kubelet else ""
    asked = asked or next((fields[1] for fields in facts if fields[0] == "endpoint"), "")
    if asked:
        path = _resolved(asked.removeprefix("unix://"))
        if found := [process for process in running if _resolved(process.socket) == path]:
            return found[0]
        raise StepError(f"{node}: the kubelet uses {asked}, but the runtimes listen on {_sockets(running)}")
    if kubelet and (found := [process for process in running if process.unit == kubelet.unit]):
        return found[0]
    if len(running) > 1:
        raise StepError(f"{node}: expected one container runtime, found several: {_sockets(running)}")
    return running[0]


def _sockets(running: Sequence[_Process]) -> str:
    return ", ".join(f"{process.socket} ({process.unit})" for process in running)


def _resolved(path: str) -> str:
    """``/var/run`` is a link to ``/run`` on every node with systemd."""
    return f"/run/{path.removeprefix('/var/run/')}" if path.startswith("/var/run/") else path


def _tools(facts: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Paths of tools by name, those beside the runtime first."""
    found: dict[str, list[str]] = {}
    for name, path in _tool_lines(facts):
        found.setdefault(name, []).insert(0, path)
    return found


def _tool_lines(facts: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    for fields in facts:
        if fields[0] == "tool":
            yield fields[1], fields[2]


def _ctr(process: _Process, tools: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    program = [tools["ctr"][0]] if "ctr" in tools else [*tools.get("k3s", ["ctr"])[:1], *(["ctr"] * ("k3s" in tools))]
    return ("env", f"CONTAINERD_ADDRESS={process.socket}", *program, "--namespace", _NAMESPACE)


def _crictl(process: _Process, tools: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if "crictl" in tools:
        return (tools["crictl"][0], "--runtime-endpoint", f"unix://{process.socket}")
    return (tools["k3s"][0], "crictl") if "k3s" in tools else ()
