"""Descriptions of DRA drivers: what suites and tools know of a driver (``variables/driver.schema.json``)."""
