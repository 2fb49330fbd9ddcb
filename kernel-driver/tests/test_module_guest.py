"""The kernel command line of the guest; boots nothing."""

from __future__ import annotations

import pytest
from module_guest import kernel_options


@pytest.mark.parametrize(("accelerator", "without_check"), [("tcg", True), ("kvm", False)])
def test_emulated_guest_boots_without_the_timer_check(accelerator: str, without_check: bool) -> None:
    options = kernel_options(accelerator).split()
    assert ("no_timer_check" in options) == without_check
    assert "console=ttyS0" in options
