"""Names of this project's objects on a cluster, whatever driver it has."""

NAMESPACE = "mock-device"
"""Namespace of what loads the kernel module, and of this project's chart."""

MADE_BY_TESTS = {"app.kubernetes.io/managed-by": "mock-device-suites"}
"""Labels of all objects that tests create, by which even leftovers of a killed run are found."""
