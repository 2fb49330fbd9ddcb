"""The verdict on a layer, and what it means for a test: pass, fail, or skip."""

from __future__ import annotations

from dataclasses import dataclass

from mock_device.checks.errors import CheckError, SkipCheck


@dataclass(frozen=True)
class Verdict:
    """Where a layer contradicts the topology."""

    blamed: tuple[str, ...]
    """This layer's own contradictions, a sentence each."""
    excused: tuple[str, ...]
    """Contradictions that stem from an earlier layer."""

    def enforce(self) -> None:
        """Raise CheckError when the layer is to blame, SkipCheck when an earlier layer is."""
        if self.blamed:
            raise CheckError("\n".join(self.blamed))
        if self.excused:
            raise SkipCheck("cannot be judged, an earlier layer is wrong already:\n" + "\n".join(self.excused))
