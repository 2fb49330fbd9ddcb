"""Names under which the cluster knows the driver."""

DRIVER = "mock-accel.example.com"
"""Name of the DRA driver, and domain of its attributes."""

NAMESPACE = "mock-device"
"""Namespace of the driver, and of what loads the kernel module."""
