"""Files that go into the guests as they are."""
