"""What the nodes show: sysfs, PCI bus, CDI files, container runtime."""
