"""Identity of a cluster's objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectId:
    """Which object of a cluster."""

    api_version: str
    kind: str
    name: str
    namespace: str
    """Empty for an object of the whole cluster."""

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"
