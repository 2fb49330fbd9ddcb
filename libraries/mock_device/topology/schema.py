"""Keys and bounds of topology files, from the JSON schema that editors use as well (draft-07)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[3] / "variables" / "topology.schema.json"
_SCHEMA: dict[str, Any] = json.loads(PATH.read_text())


def mapping(kind: str, *, external: bool = False) -> dict[str, Any]:
    """Schema of a mapping: ``topology`` is the whole file, the others are its definitions (``node``, ``numa``, …).

    With ``external``, it is the definition for nodes of a cluster that exists, if there is one.
    """
    if kind == "topology":
        return _SCHEMA
    found: dict[str, Any] = _SCHEMA["definitions"][kind]
    if external:
        found = _SCHEMA["definitions"].get(f"external-{kind}", found)
    return found
