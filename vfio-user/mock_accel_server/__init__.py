"""Serves mock PCI accelerators to QEMU's ``vfio-user-pci``; ``python -m mock_accel_server --help``."""
