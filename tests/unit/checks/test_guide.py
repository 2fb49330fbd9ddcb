"""Listings of the page about older guides' commands: reading and running them, and that none is missing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from robot import running

from mock_device.checks import guide
from mock_device.checks.errors import CheckError
from mock_device.checks.guide import PAGE, Listing
from mock_device.lab.base.paths import PROJECT

SUITE = PROJECT / "suites" / "guide.robot"
TIMEOUT = timedelta(seconds=20)
# Commands of older guides; the page's table has today's form beside each.
OLD_FORMS = (
    ".basic.attributes",
    "….intValue",
    "without `exactly`",
    '"mock-accel.example.com/numaNode"',
    "sshpass",
    "k3s crictl",
    "busybox:latest",
    "batch=",
    "grep Discovered",
)
EXAMPLE = """\
# A page

```sh
not below a heading
```

## First

```text
not for a shell
```

```console
of old
```

```sh
of today
  in two lines
```

## Second

Nothing.
"""


def test_listings_are_read_with_their_headings() -> None:
    assert guide.listings(EXAMPLE) == [
        Listing("", False, "not below a heading\n"),
        Listing("First", True, "of old\n"),
        Listing("First", False, "of today\n  in two lines\n"),
    ]


def test_two_listings_of_a_kind_in_a_section_are_rejected() -> None:
    with pytest.raises(ValueError, match="one listing of a kind in each section, found more in 'First'"):
        guide.listings(EXAMPLE + "## First\n```sh\nagain\n```\n")


def test_error_of_an_unknown_heading_lists_the_known_ones() -> None:
    with pytest.raises(CheckError, match=r"has no old listing in section 'Nowhere'; available: 'Attributes of pub"):
        guide.listing("Nowhere", old=True)


def test_every_listing_is_run_by_the_suite() -> None:
    """The suite also names no missing section."""
    keywords = {"Listing Should Print": False, "Old Listing Should Be Refused": True}
    keywords["Old Listing Should Print Nothing"] = True
    model = running.TestSuite.from_file_system(SUITE)
    steps = [step for item in (*model.tests, *model.resource.keywords) for step in item.body]
    run = {(str(step.args[0]), keywords[step.name]) for step in steps if getattr(step, "name", None) in keywords}
    assert run == {(item.heading, item.old) for item in guide.listings(PAGE.read_text())}


@pytest.mark.parametrize("form", OLD_FORMS)
def test_old_form_is_listed_beside_the_current_one(form: str) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    (row,) = (row for row in rows if form in row.split(" | ")[0])
    assert len(row.split(" | ")[1].strip(" `")) > 1


def test_links_within_the_page_point_to_headings() -> None:
    text = PAGE.read_text()
    anchors = {
        re.sub(r"[^\w\- ]", "", line.removeprefix("## ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_listing_runs_on_the_cluster_with_its_names() -> None:
    item = Listing("X", False, 'echo "$LAB_CLUSTER node1"\necho problem >&2\ncommand -v robot\n')
    output = guide.run(item, "one", {"node1": "other"}, TIMEOUT).splitlines()
    assert output[:2] == ["one other", "problem"]
    assert Path(output[2]).name == "robot"


def test_listing_stops_at_the_first_command_that_fails() -> None:
    with pytest.raises(CheckError, match=r"listing 'X': bash .* ended with 3: said first$"):
        guide.run(Listing("X", False, "echo said first\n(exit 3) | cat\necho later\n"), "one", {}, TIMEOUT)


def test_hanging_listing_is_stopped() -> None:
    with pytest.raises(CheckError, match="listing 'X': bash did not end within 0 s"):
        guide.run(Listing("X", False, "sleep 60\n"), "one", {}, timedelta(seconds=0.2))
