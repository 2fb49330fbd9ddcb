"""One QEMU guest: its command line, monitor, network link and boot files."""
