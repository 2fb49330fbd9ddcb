"""Where two layers must agree: topology, PCI bus, sysfs, ResourceSlices, claims."""
