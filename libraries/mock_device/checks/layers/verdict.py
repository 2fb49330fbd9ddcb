"""The verdict on a layer, which lets a test pass, fail or be skipped."""

from __future__ import annotations

from dataclasses import dataclass

from mock_device.checks.errors import CheckError, SkipCheck


@dataclass(frozen=True)
class Verdict:
    """Where a layer contradicts the topology."""

    blamed: tuple[str, ...]
    """Contradictions that this layer causes, a message each."""
    excused: tuple[str, ...]
    """Contradictions that an earlier layer causes."""

    def enforce(self) -> None:
        """Raise CheckError if this layer is at fault, SkipCheck if only an earlier layer is."""
        if self.blamed:
            raise CheckError("\n".join(self.blamed))
        if self.excused:
            raise SkipCheck("cannot be judged, an earlier layer is wrong already:\n" + "\n".join(self.excused))
