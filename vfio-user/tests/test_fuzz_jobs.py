"""Random rings in the test's process; ``make fuzz`` has more of them, beside other attacks."""

from __future__ import annotations

import random

import pytest
from fuzz_control import random_line
from fuzz_jobs import JobFuzzer
from running_server import Connect

RINGS = 60


@pytest.mark.parametrize("seed", range(4))
def test_jobs_end_as_the_model_says_and_touch_nothing_else(connect: Connect, seed: int) -> None:
    fuzzer = JobFuzzer(connect(), random.Random(seed))
    for _ in range(RINGS):
        fuzzer.step()
    assert fuzzer.jobs > 2 * RINGS
    fuzzer.close()


def test_lines_depend_only_on_the_seed() -> None:
    lines = [[random_line(random.Random(seed), "mock0") for _ in range(100)] for seed in (1, 1, 2)]
    assert lines[0] == lines[1] != lines[2]
