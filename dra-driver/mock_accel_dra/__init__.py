"""DRA driver for mock accelerators: publishes them to Kubernetes and prepares them for pods."""

DRIVER_NAME = "mock-accel.example.com"
