"""vfio-user server of mock PCI accelerators."""
