"""The lab: builds, starts, shows and stops clusters of QEMU guests with mock accelerators."""
