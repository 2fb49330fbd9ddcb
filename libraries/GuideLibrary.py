"""Robot Framework library: the listings of docs/guide-commands.md, run as a reader runs them."""

from __future__ import annotations

import re
from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks import guide
from mock_device.checks.errors import CheckError, refusal
from mock_device.checks.nodes import session
from mock_device.lab.base.timeouts import Timeout

_PAGE_NODE = "mock-cluster-node1"
"""Name of the first node on the page."""


@library(scope="GLOBAL", auto_keywords=False)
class GuideLibrary:
    """Runs the listing under a heading of the page, on the suite's cluster."""

    @keyword
    def listing_should_print(self, heading: str, *patterns: str, timeout: timedelta = Timeout.LISTING.nominal) -> None:
        """Check that the listing under ``heading`` works, and that its output matches each of ``patterns``.

        In these regular expressions, ``^`` and ``$`` are start and end of a line.
        """
        output = _run(heading, old=False, timeout=timeout)
        if missing := [pattern for pattern in patterns if not re.search(pattern, output, re.MULTILINE)]:
            raise CheckError(f"listing {heading!r}: expected {' and '.join(missing)}, found: {output or 'nothing'}")

    @keyword
    def old_listing_should_be_refused(
        self, heading: str, because: str, timeout: timedelta = Timeout.OLD_LISTING.nominal
    ) -> None:
        """Check that the old listing under ``heading`` fails with ``because`` in its output."""
        logger.info(refusal(f"old listing {heading!r}", lambda: _run(heading, old=True, timeout=timeout), because))

    @keyword
    def old_listing_should_print_nothing(self, heading: str, timeout: timedelta = Timeout.OLD_LISTING.nominal) -> None:
        """Check that the old listing under ``heading`` succeeds and prints nothing."""
        if output := _run(heading, old=True, timeout=timeout).strip():
            raise CheckError(f"old listing {heading!r}: expected it to print nothing, found: {output}")


def _run(heading: str, *, old: bool, timeout: timedelta) -> str:
    current = session.current()
    item = guide.listing(heading, old=old)
    output = guide.run(item, current.cluster.name, {_PAGE_NODE: current.node_names[0]}, timeout)
    logger.info(f"{item.text}\n{output}")
    return output
