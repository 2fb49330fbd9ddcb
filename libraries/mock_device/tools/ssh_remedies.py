"""What went wrong with SSH to a node, and what to do about it."""

from __future__ import annotations

import re

from mock_device.lab.cluster.cluster import NodeAccess


def reason(text: str) -> str:
    """What ssh(1) or sudo(8) printed, from the message of ``on_node``."""
    return " ".join(re.sub(r"^ssh .*? ended with \d+: ", "", text, flags=re.DOTALL).split())


def remedy(node: NodeAccess, text: str) -> str:
    """What to do after ``text``, the error of a command over SSH on ``node``."""
    via = node.jump if node.jump and "UNKNOWN port 65535" in text else None
    server = via or node
    where = f"-p {server.port} {server.user}@{server.host}"
    rules = (
        (
            r"Host key verification failed|host key is known|REMOTE HOST IDENTIFICATION",
            f"compare its fingerprint, then: ssh-keyscan -p {server.port} {server.host} >> {server.known_hosts}",
        ),
        (r"Permission denied", f"let the key in: ssh-copy-id -i {server.key_file} {where}"),
        (
            r"sudo: .*password is required|sudo: .*terminal is required",
            f"let {node.user} use sudo without a password (NOPASSWD in /etc/sudoers.d)",
        ),
        (r"sudo: .*not found|sudo: command not found", "install sudo there, or log in as root"),
        (r"Load key|not accessible|invalid format", f"check the key {server.key_file}; it must have no passphrase"),
        (
            r"refused|timed out|No route|Could not resolve|unreachable|did not end|closed by",
            f"check host and port of {server.host}:{server.port}, and the network",
        ),
    )
    for pattern, what_to_do in rules:
        if re.search(pattern, text):
            return what_to_do
    return f"try it by hand: ssh -i {server.key_file} {where}"
