"""Fakes for the driver's unit tests: a node's sysfs, an API server, a kubelet."""
