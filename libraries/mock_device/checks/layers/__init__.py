"""Checks that layers agree with each other: topology, PCI bus, sysfs, ResourceSlices, claims."""
