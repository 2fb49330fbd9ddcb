"""Names under which the cluster knows the driver."""

DRIVER = "mock-accel.example.com"
"""Name of the DRA driver, and domain of its attributes."""

NAMESPACE = "mock-device"
"""Namespace of the driver, and of what loads the kernel module."""

MADE_BY_TESTS = {"app.kubernetes.io/managed-by": "mock-device-suites"}
"""Labels of all objects that tests create, by which even leftovers of a killed run are found."""
