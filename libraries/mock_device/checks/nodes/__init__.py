"""Reads and checks the state of nodes: sysfs, PCI bus, CDI files, container runtime."""
