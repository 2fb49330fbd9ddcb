"""What a server is to serve, passed from the program that reads the options to the one that serves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mock_accel_server.registers import Identity

SERVE = "mock_accel_server.serve"
"""The program that serves, for ``python -m``."""


@dataclass(frozen=True)
class Plan:
    """Devices, and how they are served."""

    where: Path
    """Named by the ready line."""
    devices: Sequence[tuple[Path, Identity]]
    """Each with its socket."""
    secret: bytes
    """With which they sign."""
    control: Path | None
    """The control socket."""
    verbose: bool

    def pass_on(self) -> int:
        """A file descriptor that another program inherits, for ``received``."""
        plan = {
            "where": str(self.where),
            "devices": [(str(path), asdict(identity)) for path, identity in self.devices],
            "secret": self.secret.hex(),
            "control": str(self.control) if self.control else None,
            "verbose": self.verbose,
        }
        fd = os.memfd_create("plan", 0)
        with open(fd, "w", closefd=False) as file:
            json.dump(plan, file)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    @classmethod
    def received(cls, fd: int) -> Plan:
        """The plan of ``pass_on``; closes ``fd``."""
        with open(fd) as file:
            plan = json.load(file)
        devices = [(Path(path), Identity(**fields)) for path, fields in plan["devices"]]
        control = Path(plan["control"]) if plan["control"] else None
        return cls(Path(plan["where"]), devices, bytes.fromhex(plan["secret"]), control, plan["verbose"])
